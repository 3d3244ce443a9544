"""--store: what it names, and what is said when that cannot be had."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from pathlib import Path

import pytest

from trickles_web.config import HttpConfig
from trickles_web.errors import UsageError
from trickles_web.net import stores
from trickles_web.state import DirectoryStore, MemoryStore

SERVICE, ADDRESS = "app:app", ("127.0.0.1", 8000)


def opened(name: str, peer: str | None = None) -> stores.Opened:
    return stores.open_store(
        name,
        HttpConfig(),
        SERVICE,
        ADDRESS,
        secrets=(bytes(32),),
        peer=peer,
        clock=lambda: 1_700_000_000_000,
    )


@pytest.mark.parametrize("name", ["auto", "memory", "dir:x", "redis://localhost:1/2", "unix:///r"])
def test_names(name: str) -> None:
    assert stores.check(name) == name


@pytest.mark.parametrize("name", ["", "dir", "dir:", "disk", "redis:", "redis://localhost:port"])
def test_other_names(name: str) -> None:
    with pytest.raises(UsageError, match="--store"):
        stores.check(name)


def test_the_run_directory_is_one_of_the_service_and_its_address(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    first = stores.run_directory(SERVICE, *ADDRESS, environment)
    assert first == stores.run_directory(SERVICE, *ADDRESS, environment)
    assert first.is_relative_to(tmp_path)
    others = {
        stores.run_directory("other:app", *ADDRESS, environment),
        stores.run_directory(SERVICE, "127.0.0.1", 8001, environment),
        stores.run_directory(SERVICE, "::1", 8000, environment),
        first,
    }
    assert len(others) == 4
    assert first.parent.stat().st_mode & 0o777 == 0o700


def test_systemd_names_the_runtime_directory(tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other", "XDG_RUNTIME_DIR": "/nowhere"}
    assert stores.run_directory(SERVICE, *ADDRESS, environment).is_relative_to(tmp_path)


def test_auto_is_a_directory_and_goes_on_in_memory_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    async def main() -> None:
        found = opened("auto")
        assert isinstance(found.store, DirectoryStore)
        await found.start(lambda incarnation: None, lambda ident: None)
        await found.close()
        shutil.rmtree(found.store.directory.parent)
        found.store.directory.parent.write_bytes(b"in the way")
        assert type(opened("auto").store) is MemoryStore
        assert type(opened("memory").store) is MemoryStore

    asyncio.run(main())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "--store memory" in record.getMessage()


@pytest.mark.parametrize(
    ("name", "peer", "advice"),
    [
        ("redis://no-such-host.invalid", None, "redis://no-such-host.invalid: .*; check the host"),
        ("unix:///r", "192.0.2.7:99", "UDP 192.0.2.7:99: .*; choose another --peer$"),
        ("unix:///r", "no-such-host.invalid:99", "--peer no-such-host.invalid: "),
        ("unix:///r", "99", "--peer 99: give HOST:PORT"),
    ],
)
def test_addresses_that_replicas_cannot_have(name: str, peer: str | None, advice: str) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match=advice):
            opened(name, peer)

    asyncio.run(main())


def test_what_is_wrong_with_a_redis_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """It takes connections and says nothing."""

    async def main(port: int) -> None:
        found = opened(f"redis://127.0.0.1:{port}/0")
        await found.start(lambda incarnation: None, lambda ident: None)
        await found.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(silent.getsockname()[1]))
    assert "Redis does not answer (no answer in time)" in caplog.text


def test_a_path_may_be_longer_than_that_of_a_socket(tmp_path: Path) -> None:
    async def main() -> None:
        found = opened(f"dir:{tmp_path}/{'long' * 25}")
        assert isinstance(found.store, DirectoryStore)
        assert len(list(found.store.directory.glob("w-*.sock"))) == 1
        await found.start(lambda incarnation: None, lambda ident: None)
        await found.close()

    asyncio.run(main())


def test_a_directory_that_vanishes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stores, "SWEEP_S", 0.001)

    async def main() -> None:
        found = opened(f"dir:{tmp_path}/run")
        store = found.store
        assert isinstance(store, DirectoryStore)
        before = store.id
        renewed: asyncio.Queue[int] = asyncio.Queue()
        assert found.relay is not None
        found.relay.start(lambda datagram, peer: None, lambda datagram, peer: None)
        await found.start(lambda incarnation: None, renewed.put_nowait)
        store.directory.rename(tmp_path / "away")
        assert await asyncio.wait_for(renewed.get(), 10) == store.id != before
        assert (store.directory / "id").exists()
        assert list(store.directory.glob("w-*.sock"))
        await found.close()

    asyncio.run(main())
    assert "made again" in caplog.text
