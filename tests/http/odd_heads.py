"""Request heads that are odd but right, and what they say."""

from __future__ import annotations

from tests.http.hostile_heads import head, post

TAKEN: dict[bytes, dict[str, object]] = {
    head(): {},
    head(host=b""): {"headers": [(b"host", b"")]},
    b"\r\n" + head(): {},
    head(version=b"HTTP/1.0"): {"version": "1.0", "closes": True},
    head(version=b"HTTP/1.0", host=None): {"version": "1.0", "closes": True, "headers": []},
    head(b"Connection: keep-alive", version=b"HTTP/1.0"): {"version": "1.0", "closes": True},
    head(b"Connection: close"): {"closes": True},
    head(b"Connection: Keep-Alive,  CLOSE\t"): {"closes": True},
    head(b"Connection: a", b"Connection: close"): {"closes": True},
    head(b"Connection: closed"): {"closes": False},
    head(b"Connection:"): {"closes": False},
    head(b"Connection: ,,"): {"closes": False},
    head(b"Proxy-Connection: close"): {"closes": False},
    head(b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: a"): {},
    head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"): {},
    head(b"Upgrade: TLS/1.0"): {},
    # Values: blanks go from their ends, obs-text and blanks within stay.
    head(b"A:b"): {"headers": [(b"host", b"x"), (b"a", b"b")]},
    head(b"A:"): {"headers": [(b"host", b"x"), (b"a", b"")]},
    head(b"A: \t "): {"headers": [(b"host", b"x"), (b"a", b"")]},
    head(b"A: \t b \t c \t "): {"headers": [(b"host", b"x"), (b"a", b"b \t c")]},
    head(b"A: \xe4\xff\x80"): {"headers": [(b"host", b"x"), (b"a", b"\xe4\xff\x80")]},
    head(b"A: \xa0b\x85"): {"headers": [(b"host", b"x"), (b"a", b"\xa0b\x85")]},
    head(b"A: b:c: d"): {"headers": [(b"host", b"x"), (b"a", b"b:c: d")]},
    head(b"A: ::"): {"headers": [(b"host", b"x"), (b"a", b"::")]},
    head(b"!#$%&'*+-.^_`|~09Az: v"): {
        "headers": [(b"host", b"x"), (b"!#$%&'*+-.^_`|~09az", b"v")],
    },
    head(b"B: 1", b"A: 2", b"b: 3"): {
        "headers": [(b"host", b"x"), (b"b", b"1"), (b"a", b"2"), (b"b", b"3")],
    },
    head(b"A: b", b"HOST: y", host=None): {"headers": [(b"a", b"b"), (b"host", b"y")]},
    head(b"Cookie: a=b", b"Cookie: c=d"): {
        "headers": [(b"host", b"x"), (b"cookie", b"a=b"), (b"cookie", b"c=d")],
    },
    head(b"A_B: c", b"X-Host: y", b"X-Content-Length: z"): {},
    head(*[b"A: b"] * 127): {},
    head(b"A: " + b"b" * 60_000): {},
    # Methods.
    **{
        head(method=method): {"method": method.decode(), "safe": method in (b"HEAD", b"TRACE")}
        for method in (
            *(b"HEAD", b"TRACE", b"PUT", b"PATCH", b"DELETE", b"QUERY", b"PROPFIND", b"MKCOL"),
            *(b"M-SEARCH", b"PRI", b"SOURCE", b"DESCRIBE", b"PLAY", b"FLUSH", b"get", b"Get"),
            *(b"GETT", b"GE", b"A", b"connect", b"!#$%&'*+-.^_`|~09Az", b"M" * 32),
        )
    },
    # Targets.
    **{
        head(target=target): {"target": target}
        for target in (
            *(b"//", b"//evil/x", b"/a//b", b"/../x", b"/./x", b"/;a=b", b"/:80", b"/@", b"/*"),
            *(b"/http://x/", b"/?", b"/??", b"/?a?b", b"/?a=b&c=d", b"/%", b"/%zz", b"/%00"),
            *(b"/%2e%2E", b"/%c3%A4", b"/%ff", b'/"<>\\^`{|}', b"/[]", b'/?"<>\\^`{|}[]', b"/~a!"),
            b"/" + b"a" * 16_383,
        )
    },
    head(method=b"OPTIONS"): {"method": "OPTIONS", "safe": True},
    head(method=b"OPTIONS", target=b"*"): {"method": "OPTIONS", "target": b"*", "safe": True},
    head(method=b"OPTIONS", target=b"*", version=b"HTTP/1.0", host=None): {"target": b"*"},
    head(method=b"OPTIONS", target=b"http://y"): {
        "target": b"*",
        "headers": [(b"host", b"y")],
    },
    head(method=b"OPTIONS", target=b"http://y?a"): {"target": b"/?a"},
    # RFC 9112 §3.2.2: the target's authority in place of the Host's.
    head(target=b"http://x/"): {},
    head(target=b"http://y"): {"headers": [(b"host", b"y")]},
    head(b"A: b", target=b"http://y:80/a?b=c"): {
        "target": b"/a?b=c",
        "headers": [(b"host", b"y:80"), (b"a", b"b")],
    },
    head(target=b"HTTP://Y/"): {"headers": [(b"host", b"Y")]},
    head(target=b"http://y?a"): {"target": b"/?a", "headers": [(b"host", b"y")]},
    head(target=b"http://y/?http://z/"): {
        "target": b"/?http://z/",
        "headers": [(b"host", b"y")],
    },
    head(target=b"http://[::1]:8000/a"): {
        "target": b"/a",
        "headers": [(b"host", b"[::1]:8000")],
    },
    head(target=b"http://y//z"): {"target": b"//z", "headers": [(b"host", b"y")]},
    head(target=b"http://a-b_c.~!$&'()*+,;=%20/"): {
        "headers": [(b"host", b"a-b_c.~!$&'()*+,;=%20")],
    },
    head(target=b"http://y/", host=b""): {"headers": [(b"host", b"y")]},
    head(b"A: b", target=b"http://y/", version=b"HTTP/1.0", host=None): {
        "headers": [(b"host", b"y"), (b"a", b"b")],
    },
    head(method=b"PROPFIND", target=b"http://y/a"): {
        "target": b"/a",
        "headers": [(b"host", b"y")],
    },
    # Hosts.
    **{
        head(host=host): {"headers": [(b"host", host)]}
        for host in (
            *(b"x:80", b"x:", b"x:0", b"x:65535", b"x:00080", b"EXAMPLE.org", b"1.2.3.4:5", b"x."),
            *(b"a_b", b"[::1]", b"[::1]:80", b"[2001:db8::1]:443", b"[::ffff:1.2.3.4]", b"a%20b"),
            *(b"xn--4ca", b"x;y=z!", b"x,y"),
        )
    },
    head(host=b" \t x:80 \t"): {"headers": [(b"host", b"x:80")]},
    # Bodies of no bytes.
    post(b"Content-Length: 0"): {"method": "POST", "safe": False},
    post(b"Content-Length:0"): {},
    post(b"Content-Length: \t0\t "): {},
    post(b"content-LENGTH: 000"): {},
    head(b"Content-Length: 0"): {},
    head(b"Content-Length: 0", b"Connection: upgrade", b"Upgrade: h2c"): {},
    # Expect, of which nothing is left to expect when there is no body.
    head(b"Expect: 100-continue"): {},
    head(b"Expect:"): {},
    head(b"Expect: ,"): {},
    head(b"Expect: 100-CONTINUE", b"Expect: 100-continue"): {},
    head(b"Expect: 100-continue", version=b"HTTP/1.0"): {"version": "1.0"},
}

BODIES = [
    post(b"Content-Length: 3") + b"abc",
    post(b"Content-Length: 3", b"Connection: upgrade", b"Upgrade: h2c") + b"abc",
    post(b"Content-Length: 000000000000000003") + b"abc",
    head(b"Content-Length: 3") + b"abc",
    head(b"Content-Length: 3", version=b"HTTP/1.0", method=b"POST") + b"abc",
    head(b"Content-Length: 3", method=b"PROPFIND") + b"abc",
    post(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    post(b"Transfer-Encoding: Chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    post(b"transfer-encoding:chunked \t") + b"3\r\nabc\r\n0\r\n\r\n",
    post(b"Transfer-Encoding: chunked", b"Upgrade: x", b"Connection: upgrade")
    + b"3\r\nabc\r\n0\r\n\r\n",
    head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
]
