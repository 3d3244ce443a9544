"""Proxy headers against uvicorn's middleware: the same scope from the same scope."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from trickles_web.errors import UsageError
from trickles_web.http import proxy_headers
from trickles_web.http.proxy_headers import Trusted, apply

Headers = list[tuple[bytes, bytes]]


def scope_of(client: tuple[str, int] | None, headers: Headers, kind: str = "http") -> Any:
    scheme = "ws" if kind == "websocket" else "http"
    return {"type": kind, "scheme": scheme, "client": client, "headers": headers, "path": "/"}


def by_uvicorn(scope: Any, hosts: str) -> Any:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def never(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(ProxyHeadersMiddleware(app, hosts)(scope, never, never))
    return seen[0]


def check(scope: Any, hosts: str) -> Any:
    expected = by_uvicorn(copy.deepcopy(scope), hosts)
    apply(scope, Trusted(hosts))
    assert scope == expected
    return scope


def forwarded(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


@pytest.mark.parametrize(
    ("hosts", "client", "values", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", (b"1.2.3.4",), ("1.2.3.4", 0)),
        ("127.0.0.1", "127.0.0.1", (b"1.2.3.4:56",), ("1.2.3.4", 56)),
        ("127.0.0.1", "127.0.0.1", (b"[2001:db8::1]:56",), ("2001:db8::1", 56)),
        ("127.0.0.1", "127.0.0.1", (b"6.6.6.6, 1.2.3.4",), ("1.2.3.4", 0)),
        ("127.0.0.1", "127.0.0.1", (b"6.6.6.6", b"1.2.3.4"), ("1.2.3.4", 0)),
        ("127.0.0.1,10.0.0.0/8", "127.0.0.1", (b"1.2.3.4, 10.1.2.3",), ("1.2.3.4", 0)),
        ("127.0.0.1,10.0.0.0/8", "10.9.9.9", (b"10.0.0.2, 10.0.0.3",), ("10.0.0.2", 0)),
        ("*", "198.51.100.1", (b"6.6.6.6, 1.2.3.4",), ("6.6.6.6", 0)),
        ("127.0.0.1", "198.51.100.1", (b"1.2.3.4",), None),
        ("127.0.0.1", "::1", (b"1.2.3.4",), None),
        ("::1", "0:0::1", (b"1.2.3.4",), ("1.2.3.4", 0)),
        ("", "127.0.0.1", (b"1.2.3.4",), None),
        ("proxy", "proxy", (b"1.2.3.4",), ("1.2.3.4", 0)),
        ("127.0.0.1", "127.0.0.1", (b"",), None),
        ("127.0.0.1", "127.0.0.1", (b"nonsense, \xe4",), ("ä", 0)),
        ("127.0.0.1", "127.0.0.1", (b"[::1", b"[::1]x"), ("[::1]x", 0)),
        ("10.0.0.1/8", "10.0.0.1", (b"1.2.3.4",), None),
    ],
)
def test_who_the_client_is(
    hosts: str, client: str, values: tuple[bytes, ...], expected: tuple[str, int] | None
) -> None:
    scope = check(scope_of((client, 99), forwarded(*values)), hosts)
    assert scope["client"] == (expected or (client, 99))


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "value", [b"https", b" https ", b"HTTPS", b"ws", b"wss", b"http", b"ftp", b"", b"https,http"]
)
def test_schemes(kind: str, value: bytes) -> None:
    headers = [(b"x-forwarded-proto", b"http"), (b"x-forwarded-proto", value)]
    check(scope_of(("127.0.0.1", 9), headers, kind), "127.0.0.1")
    scope = check(scope_of(("192.0.2.1", 9), headers, kind), "127.0.0.1")
    assert scope["scheme"] == ("ws" if kind == "websocket" else "http")
    check(scope_of(None, headers, kind), "*")
    check(scope_of(None, headers, kind), "127.0.0.1")


HOST = st.sampled_from(
    [
        *("127.0.0.1", "10.0.0.1", "10.255.0.1", "192.0.2.1", "::1", "0::1", "2001:db8::5", "x"),
        *("", " ", "*", "unix:", "1.2.3.4:5", "[::1]:80", "[::1]", "[::1]80", "[::1]:x", "a:b"),
        *(
            "1.2.3.4:+5",
            "1.2.3.4: 6 ",
            "1.2.3.4:1_0",
            "1.2.3.4:-1",
            "[",
            "]",
            "[]",
            "[]:",
            "::1:80",
        ),
        *("1.2.3.4:" + "9" * 5000, "y" * 300, "\xb2", "1.2.3.4:\xb2", "fe80::1%lo", "01.2.3.4"),
    ]
)
TRUSTED = st.lists(
    HOST | st.sampled_from(["10.0.0.0/8", "10.0.0.1/8", "::/0", "2001:db8::/32", "0.0.0.0/0", "/"]),
    min_size=1,
    max_size=4,
).map(",".join)
LISTS = st.lists(HOST | st.text(st.characters(max_codepoint=255), max_size=6), max_size=5).map(
    lambda items: ", ".join(items).encode("latin-1")
)


@settings(max_examples=500)
@given(
    hosts=TRUSTED | st.just("*"),
    client=HOST,
    values=st.lists(LISTS, max_size=3),
    proto=st.none() | LISTS | st.sampled_from([b"https", b"wss"]),
    kind=st.sampled_from(["http", "websocket"]),
)
def test_as_uvicorn(
    hosts: str, client: str, values: list[bytes], proto: bytes | None, kind: str
) -> None:
    headers = forwarded(*values)
    if proto is not None:
        headers.append((b"x-forwarded-proto", proto))
    check(scope_of((client, 9), headers, kind), hosts)


@pytest.mark.parametrize(
    "hosts",
    [
        "*",
        "",
        "127.0.0.1",
        "::1, 10.0.0.0/8,fe80::/10",
        "proxy.example",
        "cafe.be",
        "unix:",
        "/a/b",
    ],
)
def test_lists_that_mean_something(hosts: str) -> None:
    proxy_headers.check("--option", hosts)


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        ("10.0.0.0/99", "'10.0.0.0/99' is no network"),
        ("10.0.0.1/8", "'10.0.0.1/8' is no network"),
        ("::1,300.1.1.1", "'300.1.1.1' is no address"),
        ("127.0.0", "'127.0.0' is no address"),
        ("[::1]", "'\\[::1\\]' is no address"),
        ("::1::", "'::1::' is no address"),
        ("*,fe80::/200", "'fe80::/200' is no network"),
    ],
)
def test_lists_with_a_slip_of_the_pen(hosts: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--option: {reason}; give addresses"):
        proxy_headers.check("--option", hosts)
