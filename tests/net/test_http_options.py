"""Options that reach the HTTP layer: by argument, by environment, and in the children."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from tests.net.processes import serving
from tests.net.test_serve import exchange
from trickles_web.errors import UsageError
from trickles_web.http.parsers import parser
from trickles_web.net.options import Config

APP = """
import sys
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not supported")
    parser = "httptools" if "httptools" in sys.modules else "h11"
    body = "{scheme} {client[0]} {parser}".format(**scope, parser=parser).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
)


def test_trusted_proxies_by_option_and_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert Config(app="a:b").http_config().forwarded_allow_ips == "127.0.0.1,::1"
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.0/8")
    assert Config(app="a:b").http_config().forwarded_allow_ips == "10.0.0.0/8"
    config = Config(app="a:b", forwarded_allow_ips="", proxy_headers=False, http="h11")
    http = config.http_config()
    assert (http.forwarded_allow_ips, http.proxy_headers, http.http) == ("", False, "h11")


def test_a_parser_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--http nginx"):
        Config(app="a:b", http="nginx")
    monkeypatch.setitem(sys.modules, "httptools", None)  # what `import` takes for not installed
    parser.cache_clear()
    try:
        Config(app="a:b")
        with pytest.raises(UsageError, match="--http httptools: pip install"):
            Config(app="a:b", http="httptools")
    finally:
        parser.cache_clear()


def test_a_root_path_that_no_scope_can_hold() -> None:
    with pytest.raises(UsageError, match="--root-path"):
        Config(app="a:b", root_path="/ä")


@pytest.mark.live
@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, b"https 192.0.2.9 httptools"),
        (("--http", "h11", "--no-proxy-headers"), {}, b"http 127.0.0.1 h11"),
        (("--forwarded-allow-ips", "192.0.2.1"), {}, b"http 127.0.0.1 httptools"),
        ((), {"FORWARDED_ALLOW_IPS": "192.0.2.1"}, b"http 127.0.0.1 httptools"),
        (
            (),
            {"TRICKLES_HTTP": "h11", "TRICKLES_FORWARDED_ALLOW_IPS": "192.0.2.1"},
            b"http 127.0.0.1 h11",
        ),
        ((), {"TRICKLES_PROXY_HEADERS": "0"}, b"http 127.0.0.1 httptools"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_options_reach_the_application(
    tmp_path: Path,
    workers: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    expected: bytes,
) -> None:
    (tmp_path / "app.py").write_text(APP)
    environment = {"FORWARDED_ALLOW_IPS": "127.0.0.1", **environment}
    options = ("app:app", "--port", "0", "--workers", workers, *arguments)
    with serving(tmp_path, *options, environment=environment) as server:
        answer = asyncio.run(exchange(server.port(), REQUEST))
        assert answer.rpartition(b"\r\n\r\n")[2] == expected


def test_paths_that_run_once() -> None:
    assert Config(app="a:b").http_config().never_rerun == ()
    assert Config(app="a:b", never_rerun=["/a", "*b"]).http_config().never_rerun == ("/a", "*b")
    assert Config(app="a:b", never_rerun=["/a"], rerun="never").http_config().never_rerun == ("*",)
    with pytest.raises(UsageError, match="--never-rerun: no path matches 'a'"):
        Config(app="a:b", never_rerun=["/b", "a"])
    with pytest.raises(UsageError, match="--rerun"):
        Config(app="a:b", rerun="always")


DIES = """
import os, signal
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not supported")
    with open("runs", "a") as runs:
        runs.write("x")
    if os.path.getsize("runs") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"run again"})
"""


@pytest.mark.live
@pytest.mark.parametrize(
    ("arguments", "environment", "again"),
    [
        ((), {}, True),
        (("--never-rerun", "/b", "--never-rerun", "/c*"), {}, True),
        (("--rerun", "safe"), {}, True),
        (("--never-rerun", "/b", "--never-rerun", "/d*"), {}, False),
        ((), {"TRICKLES_NEVER_RERUN": "/b /d*"}, False),
        (("--rerun", "never"), {}, False),
        ((), {"TRICKLES_RERUN": "never"}, False),
    ],
)
def test_a_get_whose_process_dies(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], again: bool
) -> None:
    (tmp_path / "app.py").write_text(DIES)
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), **environment}
    options = ("app:app", "--port", "0", "--workers", "2", *arguments)
    with serving(tmp_path, *options, environment=environment) as server:
        answer = asyncio.run(exchange(server.port(), REQUEST.replace(b" / ", b" /dies ")))
    assert (tmp_path / "runs").read_text() == ("xx" if again else "x")
    if again:
        assert b"run again" in answer
    else:
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"\r\ntrickles-outcome: unknown\r\n" in answer


@pytest.mark.live
@pytest.mark.parametrize(
    ("source", "arguments", "expected"),
    [
        ("127.0.0.1", (), b"https 192.0.2.9 httptools"),
        ("127.0.0.2", (), b"http 127.0.0.2 httptools"),
        ("127.0.0.2", ("--no-proxy-headers",), b"http 127.0.0.2 httptools"),
        ("127.0.0.2", ("--forwarded-allow-ips", "127.0.0.0/8"), b"https 192.0.2.9 httptools"),
        ("127.0.0.2", ("--forwarded-allow-ips", "127.0.0.2"), b"http 127.0.0.1 httptools"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_says_for_whom_it_speaks(
    tmp_path: Path, workers: str, source: str, arguments: tuple[str, ...], expected: bytes
) -> None:
    """TCP clients are judged by their own address, whatever they write into their headers.

    In the last case the gateway itself is not trusted: what it says of its client does not count.
    """
    (tmp_path / "app.py").write_text(APP)
    environment = {"FORWARDED_ALLOW_IPS": "127.0.0.1", "XDG_CACHE_HOME": str(tmp_path)}
    options = ("app:app", "--port", "0", "--workers", workers, "--gateway", "127.0.0.1:0")
    with serving(tmp_path, *options, *arguments, environment=environment) as server:
        port = int(server.says(r"and http://127\.0\.0\.1:(\d+) \(Press")[1])
        for _ in range(2):  # the second flow has a token: its HELLO is answered at once
            with socket.create_connection(("127.0.0.1", port), 30, (source, 0)) as client:
                client.sendall(REQUEST)
                answer = b"".join(iter(lambda: client.recv(65_536), b""))
            assert answer.rpartition(b"\r\n\r\n")[2] == expected
