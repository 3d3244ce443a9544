"""What is known of servers' keys: asked for once, judged, and kept for later flows.

A server's credentials are kept as it said them, in memory and on disk, and judged by whoever takes
them from there: what one client believes, another need not. Losing them costs a round trip.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

from trickles_web.client.tokens import TokenStore, default_directory
from trickles_web.client.trust import Judgement, judge
from trickles_web.config import MILLISECONDS, ClientConfig, Trust
from trickles_web.credentials import read_credentials
from trickles_web.errors import IdentityError, UsageError, WireError
from trickles_web.transport.private.exchange import Exchange, public_key
from trickles_web.transport.private.introduction import MOST_BYTES

LIFETIME_S = 2 * 86_400.0
"""Servers say until when their keys are good: at most so long."""


@functools.cache
def default_identities() -> Identities:
    """The process's own; kept beside tokens, in memory with TRICKLES_TOKENS=off."""
    tokens = default_directory()
    directory = None if tokens is None else tokens.with_name("identities")
    return Identities(TokenStore(directory, most_bytes=MOST_BYTES, lifetime_s=LIFETIME_S))


def server(host: str, port: int, config: ClientConfig) -> Server | None:
    """What this process knows of a server's keys; None where flows are not private."""
    if config.private is None:
        return None
    exchange = Exchange.MLKEM768_X25519 if config.post_quantum else Exchange.X25519
    return default_identities().of(host, port, config.private, exchange)


class Identities:
    """Of all servers that a process asks, each for a way of trusting."""

    def __init__(self, cache: TokenStore, *, clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._clock = clock
        self._servers: dict[tuple[str, int, Trust, Exchange], Server] = {}

    def of(self, host: str, port: int, trust: Trust, exchange: Exchange) -> Server:
        key = (host, port, trust, exchange)
        server = self._servers.get(key)
        if server is None:
            if len(self._servers) >= 256:
                self._servers.clear()
            server = self._servers[key] = Server(self._cache, self._clock, *key)
        return server


class Server:
    """One of them: a `private.flow.ServerKeys`."""

    def __init__(
        self,
        cache: TokenStore,
        clock: Callable[[], float],
        host: str,
        port: int,
        trust: Trust,
        exchange: Exchange,
    ) -> None:
        self.exchange = exchange
        self.judgement: Judgement | None = None
        """Of what it said last, if that was believed."""
        self._cache = cache
        self._clock = clock
        self._host = host
        self._port = port
        self._trust = trust
        self._known: tuple[int, Any] | None = None
        self._until = 0.0
        self._looked = False

    def known(self) -> tuple[int, Any] | None:
        if self._known is None and not self._looked:
            self._looked = True
            blob = self._cache.get(self._host, self._port)
            if blob:
                with contextlib.suppress(IdentityError):  # the server may have better to say now
                    self._take(blob, cached=True)
        if self._clock() >= self._until:
            return None
        return self._known

    def learn(self, blob: bytes) -> None:
        self._take(blob)
        self._cache.save(self._host, self._port, blob)

    def forget(self, generation: int) -> None:
        if self._known is not None and self._known[0] == generation:
            self._known, self._looked = None, True  # and what is kept is no better

    def _take(self, blob: bytes, *, cached: bool = False) -> None:
        try:
            told = read_credentials(blob)
        except WireError:
            raise IdentityError(
                "signature", f"{self._host} does not prove that its key is its own"
            ) from None
        now = self._clock()
        try:
            judgement = judge(self._trust, told, self._host, self._port, now, cached=cached)
        except UsageError as error:
            raise IdentityError("settings", str(error)) from None
        ms = now * MILLISECONDS
        for key in told.keys:
            if key.exchange == self.exchange and key.since <= ms < key.until:
                self._known = (key.generation, _readable(self._host, self.exchange, key.public))
                self._until = min(key.until / MILLISECONDS, judgement.until)
                self.judgement = judgement
                return
        raise IdentityError(
            "no key",
            f"{self._host} offers no key for {self.exchange.name} that is valid now; "
            "are the clocks right?",
        )


def _readable(host: str, exchange: Exchange, public: bytes) -> Any:
    try:
        return public_key(exchange, public)
    except WireError:
        raise IdentityError("no key", f"{host} offers a key that is none") from None
