"""Files served from sealed progress alone."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.http.apps import get
from tests.http.peer import QUIET, Peer, RefusedByServer, Site
from trickles_web.errors import ResponseGone
from trickles_web.http.files import Files, validator
from trickles_web.http.responses import Held, Need, Pending, Refuse
from trickles_web.http.scope import ASGIApp, Receive, Scope, Send
from trickles_web.transport.wire import Code


def sender(path: Path, *headers: tuple[bytes, bytes], status: int = 200, **more: int) -> ASGIApp:
    """Sends the file; `offset` and `length` say which part."""
    keys = {f"trickles.{name}": value for name, value in more.items()}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(path), **keys})

    return app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(Random(5).randbytes(300_000))
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_every_datagram_to_another_replica_without_memory(file: Path) -> None:
    random = Random(1)

    async def main() -> None:
        sites = [Site(sender(file), seed=i) for i in range(3)]
        peer = Peer(
            lambda: random.choice(sites), piece=lambda: random.choice((10, 150, 9_000, 60_000))
        )

        def wipe() -> None:
            for site in sites:
                site.wipe()

        lengths = set()
        for _ in range(2):
            answer = await peer.exchange(get(), between=lambda: lengths.add(len(peer.progress)))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert body == file.read_bytes()
            assert b"content-length: 300000" in head
        assert min(lengths) < 80 + len(str(file)) < max(lengths)
        await peer.exchange(get(), between=wipe)
        for site in sites:
            await site.service.shutdown()
            assert len(site.service.runner.files) == 0

    asyncio.run(main())


def test_head_has_no_body(file: Path) -> None:
    async def main() -> None:
        site = Site(sender(file, (b"content-length", b"300000")))
        answer = await Peer(lambda: site).exchange(get(method="HEAD"))
        assert answer.endswith(b"content-length: 300000\r\n\r\n")
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["in place", "replaced", "removed", "truncated"])
def test_a_file_that_changes_is_gone_and_never_mixed(file: Path, how: str) -> None:
    async def main() -> None:
        site, other = Site(sender(file)), Site(sender(file), seed=2)
        peer = Peer(lambda: site, piece=lambda: 50_000)

        def change() -> None:
            peer.pick = lambda: other
            if how == "in place":
                file.write_bytes(bytes(300_000))
            elif how == "replaced":
                new = file.with_name("new")
                new.write_bytes(bytes(300_000))
                new.rename(file)
            elif how == "removed":
                file.unlink(missing_ok=True)
            else:
                os.truncate(file, 200_000)

        with pytest.raises(ResponseGone):
            await peer.exchange(get(), between=change)
        assert len(peer.got) == 50_000
        await site.service.shutdown()
        await other.service.shutdown()

    asyncio.run(main())


def test_the_application_is_asked_again_in_time(file: Path) -> None:
    config = replace(QUIET, authorisation_ms=10_000)
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await sender(file)(scope, receive, send)

    async def main() -> None:
        site = Site(app, config=config)
        peer = Peer(lambda: site, piece=lambda: 60_000)

        def later() -> None:
            site.clock.ms += 6_000

        answer = await peer.exchange(get(), between=later)
        assert answer.endswith(file.read_bytes())
        assert calls == 3
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("change", ["denied", "other file"])
def test_a_file_no_longer_allowed_is_gone(file: Path, tmp_path: Path, change: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 300_000)
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await sender(file)(scope, receive, send)
        elif change == "denied":
            await send({"type": "http.response.start", "status": 403})
            await send({"type": "http.response.body", "body": b"no"})
        else:
            await sender(other)(scope, receive, send)

    async def main() -> None:
        site = Site(app, config=replace(QUIET, authorisation_ms=10_000))
        peer = Peer(lambda: site, piece=lambda: 60_000)

        def later() -> None:
            site.clock.ms += 20_000

        with pytest.raises(RefusedByServer) as refused:
            await peer.exchange(get(), between=later)
        assert refused.value.code is Code.GONE
        assert len(peer.got) == 60_000
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["removed", "replaced", "forbidden"])
def test_a_file_revoked_in_mid_download_stops_when_its_permission_ends(
    file: Path, how: str
) -> None:
    """Who has it open reads on: a download in progress ends well. But no longer than the
    application's word holds, though it is read all the time.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if how == "forbidden" and revoked:
            await send({"type": "http.response.start", "status": 403})
            await send({"type": "http.response.body", "body": b"no"})
        else:
            await sender(file)(scope, receive, send)

    revoked: list[int] = []

    async def main() -> None:
        site = Site(app, config=replace(QUIET, authorisation_ms=5_000))
        peer = Peer(lambda: site, piece=lambda: 20_000)

        def revoke() -> None:
            site.clock.ms += 1_000
            if not revoked and how == "removed":
                file.unlink()
            elif not revoked and how == "replaced":
                file.with_name("new").write_bytes(b"new")
                file.with_name("new").rename(file)
            revoked.append(len(peer.got))

        with pytest.raises((ResponseGone, RefusedByServer)):
            await peer.exchange(get(), between=revoke)
        assert 20_000 < len(peer.got) <= 7 * 20_000
        await site.service.shutdown()

    asyncio.run(main())


def test_a_head_too_long_to_seal_goes_through_memory(file: Path) -> None:
    async def main() -> None:
        site = Site(sender(file, (b"x-long", b"y" * 700)))
        peer = Peer(lambda: site, piece=lambda: 20_000)
        answer = await peer.exchange(get())
        assert answer.endswith(file.read_bytes())
        assert b"content-length: 300000" in answer
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("what", ["missing", "directory", "length"])
def test_a_file_that_cannot_be_sent_is_a_500(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path if what == "directory" else tmp_path / "file"
    headers = []
    if what == "length":
        path.write_bytes(b"abc")
        headers = [(b"content-length", b"4")]

    async def main() -> None:
        site = Site(sender(path, *headers))
        answer = await Peer(lambda: site).exchange(get())
        assert answer.startswith(b"HTTP/1.1 500 ")
        await site.service.shutdown()

    asyncio.run(main())
    assert "Exception in ASGI application" in caplog.text


def test_editions_agree_between_replicas(file: Path) -> None:
    async def main() -> None:
        editions = set()
        for seed in range(3):
            site = Site(sender(file), seed=seed)
            peer = Peer(lambda site=site: site, seed)  # type: ignore[misc]
            peer.begin(get())
            answer = await site.ask(peer.redeemed(data=get()))
            assert not isinstance(answer, Held | Need | Refuse | Pending)
            editions.add(answer.edition)
            await site.service.shutdown()
        assert len(editions) == 1

    asyncio.run(main())


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_bounded_swept_and_closed(tmp_path: Path) -> None:
    before = open_descriptors()
    files = Files(capacity=4, idle_ms=1000)
    for number in range(20):
        path = tmp_path / str(number)
        path.write_bytes(b"%03d" % number)
        valid = validator(path.stat())
        for _ in range(2):
            assert files.read(os.fsencode(path), valid, 0, 3, number) == b"%03d" % number
    assert len(files) == open_descriptors() - before == 4
    files.sweep(1017)
    assert len(files) == 2
    files.close()
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("more", "start", "stop"),
    [
        ({"offset": 5}, 5, 300_000),
        ({"length": 7}, 0, 7),
        ({"offset": 100_000, "length": 150_000}, 100_000, 250_000),
        ({"offset": 300_000}, 300_000, 300_000),
        ({"offset": 9, "length": 0}, 9, 9),
    ],
)
@pytest.mark.parametrize("header", [b"", b"y" * 700])
def test_a_part_of_a_file(
    file: Path, more: dict[str, int], start: int, stop: int, header: bytes
) -> None:
    async def main() -> None:
        site = Site(sender(file, (b"x", header), **more))
        peer = Peer(lambda: site, piece=lambda: 50_000)
        answer = await peer.exchange(get(), between=site.wipe if not header else lambda: None)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert body == file.read_bytes()[start:stop]
        assert b"content-length: %d" % (stop - start) in head
        await site.service.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    "more",
    [
        {"offset": -1},
        {"offset": 300_001},
        {"length": 300_001},
        {"offset": 1, "length": 300_000},
        {"offset": 5, "length": -1},
        {"offset": 2**70, "length": 1},
    ],
)
def test_no_part_of_a_file_is_a_500(
    file: Path, more: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        site = Site(sender(file, **more))
        assert (await Peer(lambda: site).exchange(get())).startswith(b"HTTP/1.1 500 ")
        await site.service.shutdown()

    asyncio.run(main())
    assert "outside of the file" in caplog.text


def test_two_parts_have_two_editions(file: Path) -> None:
    async def main() -> None:
        editions = set()
        for offset in (0, 1, 2):
            site = Site(sender(file, offset=offset, length=10))
            peer = Peer(lambda site=site: site)  # type: ignore[misc]
            await peer.exchange(get())
            editions.add(peer.edition)
            await site.service.shutdown()
        assert len(editions) == 3

    asyncio.run(main())


@pytest.mark.parametrize("header", [b"", b"y" * 700])
def test_any_application_by_content(file: Path, header: bytes) -> None:
    config = replace(QUIET, file_identity="content")

    async def main() -> None:
        site = Site(sender(file, (b"x", header)), config=config)
        peer = Peer(lambda: site, piece=lambda: 50_000)
        turns = iter(range(1000))

        def touch() -> None:
            os.utime(file, ns=(10**18, 10**18 + next(turns)))

        answer = await peer.exchange(get(), between=touch)
        assert answer.endswith(file.read_bytes())
        await site.service.shutdown()

    asyncio.run(main())
