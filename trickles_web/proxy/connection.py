"""A client's connection to a proxy: its requests, one after the other, each to any server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import h11

from trickles_web.client.remote import SocketAddress
from trickles_web.proxy import refusal as refusals
from trickles_web.proxy.exchange import exchange, tunnel
from trickles_web.proxy.fields import has_body, is_ambiguous, may_pass
from trickles_web.proxy.party import Party
from trickles_web.proxy.reaching import Ways
from trickles_web.proxy.refusal import Header, Refusal
from trickles_web.proxy.targets import Place, absolute, tunnel_place

HTTPS_PORT = 443
MAX_KEPT = 8
"""Idle flows of one connection, each to another server."""
KEPT_S = 60.0
"""An older one is not used again: its server may have been replaced meanwhile."""
TLS_RECORD = b"\x16\x03"
"""What a client's first message in TLS begins with."""


class Connection:
    """`run` it once; `warn` hears of each request that failed, in one line."""

    def __init__(
        self,
        client: Party,
        peer: SocketAddress,
        ways: Ways,
        credential: bytes,
        warn: Callable[[str], None],
    ) -> None:
        self._client = client
        self._peer = peer
        self._ways = ways
        self._credential = credential
        self._warn = warn
        self._method = b""
        self._kept: dict[Place, tuple[Party, float]] = {}
        """Flows between requests, and since when; the longest idle first."""

    async def run(self) -> None:
        """Until the client or a response ends it. Cancelled, it resets a response under way."""
        client = self._client
        try:
            while await self._next():
                client.http.start_next_cycle()
            await client.stream.finish()
        except asyncio.CancelledError:
            if client.http.our_state is not h11.IDLE:
                client.stream.reset()
            raise
        finally:
            client.stream.abort()
            for server, _ in self._kept.values():
                server.stream.abort()

    async def _next(self) -> bool:
        """Answer a request; False if there is none, or will be no other."""
        try:
            event = await self._client.event()
            if isinstance(event, h11.Request):
                await self._handle(event)
        except h11.RemoteProtocolError as error:
            await self._refuse(refusals.malformed(error))
        except Refusal as refusal:
            await self._refuse(refusal)
        except OSError:  # the client's: it is gone
            return False
        return self._client.is_done

    async def _handle(self, request: h11.Request) -> None:
        self._method = request.method
        headers = list(request.headers)
        whole = not has_body(headers)
        if whole:
            await self._client.event()  # its end, which does not have to be waited for
        self._check(request, headers)
        if request.method == b"CONNECT":
            await self._connect(tunnel_place(request.target))
        else:
            await self._forward(request, whole)

    def _check(self, request: h11.Request, headers: list[Header]) -> None:
        if not may_pass(headers, self._credential):
            raise refusals.no_credential()
        if request.http_version not in (b"1.0", b"1.1"):
            raise Refusal(505, "HTTP Version Not Supported", "this proxy speaks HTTP/1.1")
        if is_ambiguous(headers):
            text = "both Content-Length and Transfer-Encoding say where this request ends"
            raise Refusal(400, "Bad Request", text)

    async def _forward(self, request: h11.Request, whole: bool) -> None:
        place, host, target = absolute(request.method, request.target)
        client, server = self._client, await self._server(place)
        switched = False
        try:
            switched = await exchange(
                client, server, request, host=host, target=target, whole=whole
            )
            if switched:
                await tunnel(client, server)
        except (OSError, h11.ProtocolError) as error:
            raise refusals.failed(place, error) from None
        finally:
            if server.is_done and self._ways.is_over_trickles(place):
                server.http.start_next_cycle()
                self._keep(place, server)
            else:
                server.stream.abort()

    async def _server(self, place: Place) -> Party:
        """One that is idle, or a new one. Raises Refusal."""
        server, since = self._kept.pop(place, (None, 0.0))
        if server is not None:
            if not server.stream.ended and monotonic() - since < KEPT_S:
                return server
            server.stream.abort()
        return await self._ways.open(place, self._peer)

    def _keep(self, place: Place, server: Party) -> None:
        self._kept[place] = server, monotonic()
        if len(self._kept) > MAX_KEPT:
            oldest, _ = self._kept.pop(next(iter(self._kept)))
            oldest.stream.abort()

    async def _connect(self, place: Place) -> None:
        client, over_trickles = self._client, self._ways.is_over_trickles(place)
        if over_trickles and place.port == HTTPS_PORT:
            raise refusals.no_tls(place)
        server = await self._ways.open(place, self._peer)
        try:
            await client.send(h11.Response(status_code=200, headers=[], reason=b"Connected"))
            if over_trickles:
                first = client.beyond or await client.stream.peek()
                if first.startswith(TLS_RECORD):
                    raise refusals.no_tls(place)
            await tunnel(client, server)
        except OSError as error:
            raise refusals.failed(place, error) from None
        finally:
            server.stream.abort()

    async def _refuse(self, refusal: Refusal) -> None:
        """An answer of our own; or a reset, if a part of another is with the client already."""
        client = self._client
        if refusal.status != 407:  # which is how many clients ask whether they need a credential
            self._warn(refusal.text)
        if not client.can_be_answered:
            client.stream.reset()
            return
        body = f"trickles: {refusal.text}\n".encode()
        headers = [
            *refusal.headers,
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", str(len(body)).encode()),
        ]
        if client.http.their_state in (h11.SEND_BODY, h11.ERROR):
            headers.append((b"Connection", b"close"))
        head = h11.Response(
            status_code=refusal.status, headers=headers, reason=refusal.reason.encode()
        )
        await client.send(head)
        if self._method != b"HEAD":
            await client.send(h11.Data(data=body))
        await client.send(h11.EndOfMessage())
