"""Bytes to a server and back over TCP, and the responses among what came, unnormalised."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import h11

PATIENCE_S = 30.0
LONGEST_HEADERS = 1 << 20

_FRAMING = (b"connection", b"transfer-encoding")
"""These two the servers add, behind all that is the application's."""

_EXPIRES = re.compile(rb"expires=[^;]+")
_SESSION_STAMP = re.compile(rb"^session=([^.;]+)\.[^;]+")


@dataclass(frozen=True)
class Answer:
    """A response. `complete`: its framing says that all of it is here."""

    status: int
    reason: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def talk(port: int, data: bytes) -> bytes:
    """All that comes until the server closes, which the last request should ask it to do."""
    return b"".join(_received(port, data))


def talk_in_turn(port: int, requests: list[tuple[str, bytes]]) -> bytes:
    """The same; each (method, bytes) is sent when the answer to the one before is whole."""
    came = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        for at, (_, data) in enumerate(requests):
            connection.sendall(data)
            names = [method for method, _ in requests[: at + 1]]
            while not _all_here(bytes(came), names):
                part = connection.recv(1 << 20)
                assert part, f"closed after {bytes(came[-2000:])!r}"
                came += part
        while part := connection.recv(1 << 20):
            came += part
    return bytes(came)


def _received(port: int, data: bytes) -> Iterator[bytes]:
    # A server that refuses a request may close before it has taken all of it, and one whose
    # application fails resets.
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        connection.sendall(data)
        while part := connection.recv(1 << 20):
            yield part


def _all_here(came: bytes, methods: list[str]) -> bool:
    found = answers(came, *methods)
    return len(found) == len(methods) and found[-1].complete


def answers(came: bytes, *methods: str) -> list[Answer]:
    """The responses in `came` to requests with these methods; nothing may follow the last."""
    found = []
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEADERS)
    http.receive_data(came)
    http.receive_data(b"")
    for method in methods:
        http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        http.send(h11.EndOfMessage())
        answer = _answer(http, method)
        if answer is None:
            break
        found.append(answer)
        if http.their_state is not h11.DONE or http.our_state is not h11.DONE:
            break
        http.start_next_cycle()
    rest, _ = http.trailing_data
    whole = len(found) == len(methods) and found[-1].complete
    assert not (whole and rest), f"after the last response: {rest[:200]!r}"
    return found


def _answer(http: h11.Connection, method: str) -> Answer | None:
    head: h11.Response | None = None
    body = bytearray()
    complete = False
    with contextlib.suppress(h11.RemoteProtocolError):
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                complete = True
                break
            elif not isinstance(event, h11.InformationalResponse):
                break
    if head is None:
        return None
    headers = [_comparable(name, value) for name, value in head.headers.raw_items()]
    if body and any(name == b"content-encoding" for name, _ in headers):
        body[4:8] = bytes(4)  # the time in a gzip header, RFC 1952 §2.3.1
    if method == "HEAD":  # the coding of a body that does not come
        headers = [header for header in headers if header != (b"transfer-encoding", b"chunked")]
    headers.sort(key=lambda header: header if header[0] in _FRAMING else (b"", b""))
    return Answer(
        head.status_code, head.reason, head.http_version, tuple(headers), bytes(body), complete
    )


def _comparable(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header line without what depends on the clock or on who serves. The name is folded."""
    name = name.lower()
    if name in (b"date", b"server"):
        return name, b"(any)"
    if name == b"set-cookie":
        value = _EXPIRES.sub(b"expires=(any)", value)
        return name, _SESSION_STAMP.sub(rb"session=\1.(stamp)", value)
    return name, value
