"""Requests whose body comes while, or because, they are answered (RFC 9110 §10.1.1, the ASGI
specification): 100 Continue, and applications that are called before their request is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.behaviours.apps import body, describe, start
from tests.behaviours.rows_of_executions import seen, unknown
from tests.behaviours.rows_of_requests import (
    LONG,
    ask,
    chunked,
    closes,
    error,
    has,
    once,
    post,
    replies,
    scope,
    statuses,
)
from tests.behaviours.rows_of_responses import breaks_off, reply
from tests.behaviours.ways import Application, Check, Outcome, Row, Stage, World, forget
from tests.http.peer import QUIET
from trickles_web.http.responses import Held
from trickles_web.http.scope import Receive, Scope, Send

EXPECT = "Expect: 100-continue"
HEAD = ask("Content-Length: 5", EXPECT, method="POST")
IN_CHUNKS = ask("Transfer-Encoding: chunked", EXPECT, method="POST")
CHUNK = b"5\r\nhello\r\n"
OPEN = replace(QUIET, request_buffering=False)
VERY_LONG = bytes(range(256)) * 2500
"""More than is taken before the application reads."""

Play = Callable[[World], Awaitable[None]]

# Applications


async def echoes(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers each part of the request as it comes, and notes what ends it."""
    await send(start())
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            stage.seen.append(message["type"])
            return
        more = message["more_body"]
        await send(body(message["body"], more))


async def takes_a_part(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    part = await receive()
    assert part["type"] == "http.request"
    await send(start())
    await send(body(b"enough"))
    stage.seen.append("answered")


def answers_at_once(status: int) -> Application:
    async def app(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(status))
        await send(body(b"at once"))

    return app


async def reads(stage: Stage, scope: Scope, receive: Receive, send: Send) -> None:
    """Notes the first part, and what ends the request."""
    stage.seen.append(bytes((await receive())["body"]).decode())
    while (message := await receive())["type"] == "http.request":
        pass
    stage.seen.append(message["type"])


# Checks


def interim(outcome: Outcome) -> None:
    """The first of all replies, to the byte."""
    first = outcome.replies[0]
    assert (first.status, first.headers, first.raw, first.closed) == (100, [], b"", False)


def prefaced(outcome: Outcome) -> None:
    """100 Continue and the response itself are one reply."""
    assert outcome.reply.status == 100
    assert outcome.reply.raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"body": "hello"' in outcome.reply.raw
    assert not outcome.reply.closed


def ends(outcome: Outcome) -> None:
    """The flow, although the response did not know so."""
    assert outcome.reply.closed


# What clients do


def in_turn(*pieces: bytes) -> Play:
    """Sends each piece once more of the response has come."""

    async def play(world: World) -> None:
        peer = world.peer()
        rest, got = list(pieces[1:]), 0

        def between() -> None:
            nonlocal got
            if rest and len(peer.got) > got:
                peer.stream += rest.pop(0)
                got = len(peer.got)

        await world.exchange(peer, pieces[0], between)
        await world.settle()

    return play


def in_parts(*pieces: bytes) -> Play:
    """Sends a piece whenever the server has taken what there was."""

    async def play(world: World) -> None:
        peer = world.peer()
        rest = list(pieces[1:])

        def between() -> None:
            if rest and peer.held == len(peer.stream):
                peer.stream += rest.pop(0)

        await world.exchange(peer, pieces[0], between)
        await world.settle()

    return play


async def is_told_nothing(world: World) -> None:
    """Until the body is there as well."""
    peer = world.peer()
    head, _, rest = world.request.partition(b"\r\n\r\n")
    peer.begin(head + b"\r\n\r\n")
    answer = await peer.pick().ask(peer.redeemed(data=peer.stream))
    assert isinstance(answer, Held)
    peer.keep(answer)
    assert await world.exchange(peer, rest)


async def loses_the_interim(world: World) -> None:
    """And asks for it again, more than once."""
    for _ in range(3):
        peer = world.peer()
        assert await world.exchange(peer, HEAD)
    assert await world.exchange(peer, b"hello")


async def is_forgotten(world: World) -> None:
    """Between the interim response and the body."""
    peer = world.peer()
    assert await world.exchange(peer, HEAD)
    for site in world.sites:
        forget(site.store)
    assert await world.exchange(peer, b"hello")


async def leaves(world: World) -> None:
    """In the middle of its request."""
    peer = world.peer()
    first = asyncio.create_task(world.exchange(peer, world.request))
    await world.stage.saw("hello")
    first.cancel()
    await asyncio.wait([first])
    await world.cancel(peer)
    await world.stage.saw("http.disconnect")


async def asks_after_a_death(world: World) -> None:
    """Of the process that takes the request; as somebody who has sent a part, and as a repeat."""
    assert world.group is not None
    peer = world.peer()
    first = asyncio.create_task(world.exchange(peer, world.request))
    await world.stage.saw("hello")
    (owner,) = [site for site in world.sites if site.service.runner.calls.runs]
    await world.group.kill(owner)
    first.cancel()
    await asyncio.wait([first])
    assert peer.open
    answer = await peer.pick().ask(peer.redeemed(offset=peer.held))
    assert not isinstance(answer, Held)
    repeat = world.peer()
    repeat.repeats = True
    assert await world.exchange(repeat, world.request)


def of_an_interim(name: str, *requests: bytes, checks: tuple[Check, ...] = ()) -> Row:
    """Each of the requests is sent when the answer to the one before is here."""
    return Row(name, describe, requests, (interim, *checks))


def row(name: str, app: Application, requests: bytes | tuple[bytes, ...], *checks: Check) -> Row:
    return Row(name, app, requests, checks, OPEN)


def played(name: str, app: Application, play: Play, *checks: Check) -> Row:
    return Row(name, app, b"", checks, OPEN, play=play)


HELLO = (statuses(100, 200), scope(method="POST", body="hello"), once)
UNFINISHED = ask("Transfer-Encoding: chunked", method="POST", body=CHUNK)

CONTINUED = [
    of_an_interim("an expected 100", HEAD, b"hello", checks=HELLO),
    of_an_interim("an expected 100, chunks", IN_CHUNKS, CHUNK + b"0\r\n\r\n", checks=HELLO),
    of_an_interim(
        "an expected 100 after a head of many datagrams",
        *(HEAD.replace(b"Host", b"X: " + LONG.encode() + b"\r\nHost"), b"hello"),
        checks=(*HELLO, has("x", LONG)),
    ),
    of_an_interim(
        "an expected 100 before a body of many datagrams",
        *(post(b"", EXPECT).replace(b"th: 0", b"th: 40000"), LONG.encode()),
        checks=(statuses(100, 200), scope(body=LONG), once),
    ),
    of_an_interim(
        "an expected 100, and requests after it",
        *(HEAD, b"hello", HEAD, b"hullo", ask()),
        checks=(statuses(100, 200, 100, 200, 200), scope(method="GET", body="")),
    ),
    Row("nothing to expect", describe, ask(EXPECT), (statuses(200), scope(body=""))),
    Row("nothing to expect in no chunks", describe, post(b"", EXPECT), (statuses(200), once)),
    Row(
        "HTTP/1.0 knows no interim responses",
        describe,
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello",
        (statuses(200), scope(body="hello"), once),
        play=is_told_nothing,
    ),
    Row(
        "413 in place of 100",
        *(describe, HEAD.replace(b"th: 5", b"th: 5000"), error(413)),
        replace(QUIET, max_body_bytes=4999),
    ),
    Row("417 in place of 100", describe, HEAD.replace(b"continue", b"continue, x"), error(417)),
    Row("a lost 100", describe, HEAD, (interim, *HELLO[1:]), play=loses_the_interim),
    Row("forgotten after a 100", describe, HEAD, (interim, *HELLO), play=is_forgotten),
]

TAKEN = [
    row("open: a body", describe, post(b"abc"), scope(body="abc"), once, closes(False)),
    row("open: a long body", describe, post(LONG.encode()), scope(body=LONG), once, closes(False)),
    row("open: a very long body", echoes, post(VERY_LONG), reply(content=VERY_LONG), closes(False)),
    row("open: no body", describe, ask(), scope(method="GET", body=""), closes(False)),
    row(
        "open: a GET with a body", describe, ask("Content-Length: 2", body=b"ab"), scope(body="ab")
    ),
    row(
        "open: chunks and trailers",
        *(describe, chunked(*[b"0123456789" * 100] * 40, trailers=b"X: y\r\n")),
        *(scope(body=LONG), has("x", None), once),
    ),
    row("open: a very long body in chunks", echoes, chunked(VERY_LONG), reply(content=VERY_LONG)),
    row(
        "open: requests after it",
        *(describe, (post(b"abc"), chunked(LONG.encode()), ask(), post(LONG.encode()))),
        *(replies("POST abc", f"POST {LONG}", "GET ", f"POST {LONG}"), closes(False)),
    ),
    played(
        "open: a conversation",
        *(echoes, in_turn(UNFINISHED, CHUNK, b"1\r\n!\r\n", b"0\r\n\r\n")),
        *(reply(content=b"hellohello!"), closes(False)),
    ),
    row(
        "open: answered before it is whole",
        *(takes_a_part, UNFINISHED, reply(content=b"enough"), ends, seen("answered")),
    ),
    row("open: refused at once", answers_at_once(403), UNFINISHED, reply(403, b"at once"), ends),
    row(
        "open: answered at once, as a whole",
        *(answers_at_once(200), (post(b"abc"), post(b"abc")), statuses(200, 200), closes(False)),
    ),
]

BROKEN = [
    row(
        "open: a bad chunk",
        *(describe, UNFINISHED + b"x\r\n", error(400)),
    ),
    played("open: a bad chunk later", describe, in_parts(UNFINISHED, b"x\r\n"), error(400)),
    played(
        "open: a bad chunk after a part of the response",
        *(echoes, in_turn(UNFINISHED, b"x\r\n"), breaks_off, seen("http.disconnect")),
    ),
    Row(
        "open: too large, in chunks",
        *(describe, chunked(*[bytes(1000)] * 20), error(413)),
        replace(OPEN, max_body_bytes=10_000),
    ),
    Row(
        "open: too large",
        *(describe, post(bytes(20_000)), error(413)),
        replace(OPEN, max_body_bytes=10_000),
    ),
    Row(
        "open: a client that leaves",
        *(reads, UNFINISHED, seen("hello", "http.disconnect"), OPEN),
        play=leaves,
    ),
    Row(
        "open: its process died",
        *(reads, UNFINISHED, (unknown, seen("hello")), OPEN),
        play=asks_after_a_death,
        ways=("replicas",),
    ),
]

EXPECTED = [
    played("open: an expected 100", describe, in_turn(HEAD, b"hello"), prefaced, once),
    played(
        "open: an expected 100, chunks",
        *(describe, in_turn(IN_CHUNKS, CHUNK + b"0\r\n\r\n"), prefaced, once),
    ),
    row("open: a 100 that nobody waits for", describe, HEAD + b"hello", scope(body="hello"), once),
    row("open: refused instead of 100", answers_at_once(403), HEAD, reply(403, b"at once"), ends),
]

ROWS = [*CONTINUED, *TAKEN, *BROKEN, *EXPECTED]
