"""Scopes against uvicorn's, which reads the same bytes from a socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from uvicorn import Config as UvicornConfig
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from trickles_web.config import HttpConfig
from trickles_web.http.reader import Reader
from trickles_web.http.request import Request
from trickles_web.http.scope import build_scope, full_path

CLIENT, SERVER = ("192.0.2.1", 4), ("192.0.2.2", 80)
COMPARED = (
    *("type", "asgi", "http_version", "scheme", "method", "root_path", "path", "raw_path"),
    *("query_string", "headers", "state"),
)


def ours(data: bytes, **options: Any) -> Any:
    config = HttpConfig(**options)
    request = Reader(config).read(data)
    assert isinstance(request, Request), request
    return build_scope(request, CLIENT, SERVER, config, {"a": 1}, None)


def by_uvicorn(
    data: bytes, protocol: type[H11Protocol] | type[HttpToolsProtocol], root: str
) -> Any:
    async def main() -> Any:
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            got.set_result(scope)
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body"})

        config = UvicornConfig(
            app, lifespan="off", ws="none", log_config=None, proxy_headers=False, root_path=root
        )
        config.load()
        near, far = socket.socketpair()
        with near:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol(config, ServerState(), {"a": 1}), far
            )
            near.sendall(data)
            try:
                return await asyncio.wait_for(got, 5)
            finally:
                transport.abort()
                await asyncio.sleep(0)  # the transport closes its socket in the next turn

    return asyncio.run(main())


HEADS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /a%20b/%C3%A4/%2F?c=%20d&e HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%ff%fe%c3 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%zz%0%00% HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a+b;c=d,e HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //a//b/../c?? HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?a?b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a? HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /x HTTP/1.1\r\nA: 1\r\nHost: x:80\r\nA: 2\r\nCOOKIE: a=b\r\ncookie: c\r\n\r\n",
    b"GET / HTTP/1.1\r\nA:\r\nHost: x\r\nB: \xe4 \xff\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Type: t/p\r\n\r\nabc",
    b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\nTrailer: A\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
    b"PROPFIND /dav HTTP/1.1\r\nHost: x\r\nDepth: 1\r\n\r\n",
]


@pytest.mark.parametrize("root", ["", "/sub", "/a%20b"])
@pytest.mark.parametrize("data", HEADS, ids=range(len(HEADS)))
def test_as_uvicorn(data: bytes, root: str) -> None:
    for protocol in (H11Protocol, HttpToolsProtocol):
        theirs = by_uvicorn(data, protocol, root)
        for name in ("h11", "httptools"):
            scope = ours(data, http=name, root_path=root)
            for key in COMPARED:
                assert scope[key] == theirs[key], (key, protocol, name)
            assert set(scope) == {*theirs, "extensions"}
            assert full_path(scope)


def test_absolute_form_as_uvicorn_with_httptools_but_for_the_host() -> None:
    data = b"GET http://y:80/a%20b?c=d HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"
    theirs = by_uvicorn(data, HttpToolsProtocol, "/sub")
    for name in ("h11", "httptools"):
        scope = ours(data, http=name, root_path="/sub")
        for key in COMPARED:
            if key != "headers":
                assert scope[key] == theirs[key]
        assert (scope["path"], scope["raw_path"]) == ("/sub/a b", b"/sub/a%20b")
        assert scope["headers"] == [(b"host", b"y:80"), (b"a", b"b")]


FORWARDED = (
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
)


def test_proxy_headers_count_only_from_trusted_clients() -> None:
    scope = ours(FORWARDED)
    assert (scope["client"], scope["scheme"]) == (CLIENT, "http")
    scope = ours(FORWARDED, forwarded_allow_ips="192.0.2.0/24")
    assert (scope["client"], scope["scheme"]) == (("1.2.3.4", 0), "https")
    scope = ours(FORWARDED, forwarded_allow_ips="*", proxy_headers=False)
    assert (scope["client"], scope["scheme"]) == (CLIENT, "http")
    assert scope["headers"][1:] == [
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-for", b"1.2.3.4"),
    ]


def test_the_state_is_each_request_s_own() -> None:
    first = ours(HEADS[0])
    first["state"]["a"] = 2
    assert ours(HEADS[0])["state"] == {"a": 1}
