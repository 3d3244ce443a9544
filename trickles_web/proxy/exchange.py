"""One request and its response through a proxy, and tunnels; both directions at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import h11

from trickles_web.proxy.fields import forwarded, request_headers, response_headers
from trickles_web.proxy.party import Party
from trickles_web.proxy.refusal import malformed


async def exchange(
    client: Party, server: Party, request: h11.Request, *, host: bytes, target: bytes, whole: bool
) -> bool:
    """Carry both; True if the two have left HTTP for another protocol.

    whole: the request has no body. If the server answers before it has all of one, the response is
    passed on, and the rest of the request is not.

    Raises what the server's stream does, h11.ProtocolError if it speaks no HTTP, and Refusal if the
    client does not.
    """
    head = h11.Request(
        method=request.method,
        target=target,
        headers=request_headers(list(request.headers.raw_items()), host),
    )
    if whole:
        await server.send(head, h11.EndOfMessage())
        return await _answer(client, server)
    await server.send(head)
    async with _meanwhile(_upload(client, server)):
        return await _answer(client, server)


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Does it beside the body, and no longer."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OSError):  # then the client is gone
            raise error


async def _upload(client: Party, server: Party) -> None:
    """A failure on the server's side is left to whoever reads from there."""
    try:
        while not isinstance(event := await client.event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            await server.send(event)
        trailers = forwarded(event.headers.raw_items())
        await server.send(h11.EndOfMessage(headers=trailers))
    except h11.RemoteProtocolError as error:
        server.stream.fail(malformed(error))
    except h11.LocalProtocolError:
        pass


async def _answer(client: Party, server: Party) -> bool:
    modern = (client.http.their_http_version or b"1.0") >= b"1.1"
    while True:
        event = await server.event()
        match event:
            case h11.InformationalResponse():
                if modern:
                    await client.send(_copied(event))
                if event.status_code == 101:
                    return True
            case h11.Response():
                await client.send(_copied(event))
            case h11.Data():
                await client.send(event)
            case h11.EndOfMessage():
                trailers = forwarded(event.headers.raw_items()) if modern else []
                await client.send(h11.EndOfMessage(headers=trailers))
                return False
            case _:
                raise h11.RemoteProtocolError("it ended without a response")


def _copied(
    head: h11.InformationalResponse | h11.Response,
) -> h11.InformationalResponse | h11.Response:
    headers = response_headers(list(head.headers.raw_items()))
    return type(head)(status_code=head.status_code, headers=headers, reason=head.reason)


async def tunnel(client: Party, server: Party) -> None:
    """Bytes both ways, until the server has no more. Raises what its stream does."""
    async with _meanwhile(_pump(client, server)):
        await _pump(server, client)


async def _pump(source: Party, sink: Party) -> None:
    if source.beyond:
        await sink.stream.write(source.beyond)
    while data := await source.stream.read():
        await sink.stream.write(data)
    sink.stream.write_eof()
