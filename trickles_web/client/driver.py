"""What a Flow must not own: a socket, a timer, the clock, a file for long requests, and the tokens
of earlier flows.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Callable
from time import monotonic
from typing import Any

from trickles_web.client import identities
from trickles_web.client.port import Port
from trickles_web.client.remote import Remote
from trickles_web.client.spill import SpillingBytes
from trickles_web.client.tokens import TokenStore
from trickles_web.config import PRIVATE_SCHEME, ClientConfig
from trickles_web.errors import ConnectError, FlowError
from trickles_web.transport.flow import SILENT_PROBES, Flow
from trickles_web.transport.private.flow import PrivateFlow

DRAIN_TRAINS = 64
"""Taken in one wake-up, so that one flow cannot starve the loop: at most so many,"""
DRAIN_BYTES = 1 << 20
"""or, but for the last, so many bytes (about 1 ms)."""
SHORTEST_TIMER_S = 0.001
"""The grain of both loops' timers (epoll's, uvloop's): less would only spin."""


def _flow(
    remote: Remote, config: ClientConfig, token: bytes, origin: bytes, kept: SpillingBytes
) -> Flow:
    """A flow of the kind that is configured."""
    path, now, name = remote.path_size(config), monotonic(), os.urandom(8)
    server = identities.server(remote.host, remote.port, config)
    if server is None:
        return Flow(name, config, now, token=token, origin=origin, path=path, kept=kept)
    return PrivateFlow(
        name,
        config,
        now,
        server,
        os.urandom,
        exchange=server.exchange,
        token=token,
        origin=origin,
        path=path,
        kept=kept,
    )


class Driver:
    """One flow over a UDP socket of its own.

    `advance(now)` is called after every batch of datagrams, when the flow's timer is due, and after
    `schedule`; it is to take what the flow has, then call `transmit`, and `arm` at last. Once for a
    batch, not once for each datagram.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        remote: Remote,
        advance: Callable[[float], None],
        *,
        config: ClientConfig,
        tokens: TokenStore,
        local_addr: tuple[str, int] | None,
        origin: bytes,
    ) -> None:
        """Open the socket. Nothing is sent: the first datagram carries the first bytes written.

        Raises ConnectError if no address of the server has a route.
        """
        self._loop = loop
        self._remote = remote
        self._advance = advance
        self._config = config
        self._tokens = tokens
        self._flight: list[bytes] = []
        """What was sent last: it goes again when it is the network that says it was lost."""
        self._refusals = 0
        """In a row, with nothing that arrived between them."""
        self._silence = 0
        self._preferring = False
        """Is the address that a server prefers on trial?"""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._scheduled = False
        self._token_kept = False
        self._closed = False
        self._kept = SpillingBytes()
        # Those of private flows are not to be seen in a HELLO in clear.
        scheme = "" if config.private is None else f"{PRIVATE_SCHEME}://"
        self._place = (scheme + remote.host, remote.port)
        self.flow = _flow(remote, config, tokens.get(*self._place), origin, self._kept)
        self._port = Port(
            loop, remote, local_addr, self._on_readable, self._on_refused, config.recorder
        )

    def ends(self) -> dict[str, Any]:
        """The socket now in use and its two names, under asyncio's keys."""
        sockname, peername = self._port.names()
        return {"socket": self._port.socket, "sockname": sockname, "peername": peername}

    # When to advance

    def _on_readable(self) -> None:
        now = monotonic()
        if not self._drain(now):
            self._port.listen_again()  # woken for an error, not for a datagram
        self._advance(now)

    def _drain(self, now: float) -> bool:
        """False if there was nothing."""
        flow, port = self.flow, self._port
        sock, taken = port.socket, 0
        for _ in range(DRAIN_TRAINS):
            try:
                train, segment = port.receive()
            except ConnectionRefusedError:
                self._on_refused()
                if port.socket is not sock:
                    break
                continue
            except OSError:  # nothing more now; or an ICMP error, which is a lost datagram
                break
            flow.receive_train(train, segment, now)
            taken += len(train)
            if taken >= DRAIN_BYTES or flow.idle:
                break
        if taken:
            self._refusals = 0
        return taken > 0

    def schedule(self) -> None:
        """Advance in the loop's next turn: a head and a body written in a row share datagrams."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._on_schedule)

    def _on_schedule(self) -> None:
        if self._scheduled and not self._closed:
            self._advance(monotonic())

    def arm(self, now: float) -> None:
        """Lazily: a deadline that moves later, as it does with each datagram, costs nothing."""
        deadline = self.flow.timeout()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(deadline - now, SHORTEST_TIMER_S), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now, deadline = monotonic(), self.flow.timeout()
        if deadline is not None and deadline <= now:
            self._drain(now)  # no silence is to be seen in what the loop had no time to take
            self._advance(now)
        else:  # it moved later since this timer was armed
            self.arm(now)

    # What goes out

    def transmit(self, now: float) -> None:
        """Send what the flow wants sent."""
        self._scheduled = False  # whatever was written up to here goes with it
        flow = self.flow
        datagrams = flow.transmit(now)
        if flow.silence != self._silence:
            more, self._silence = flow.silence > self._silence, flow.silence
            if more:
                self._on_silence()
        if datagrams:
            self._flight = datagrams
        if not self._token_kept and flow.token:
            # At once, so that a gateway's other flows profit while this one lives on.
            self._token_kept = True
            self._tokens.remember(*self._place, flow.token)
            self._remote.silences.discard(self._port.address)
        self._port.send(datagrams)
        if flow.preferred is not None:
            self._prefer(*flow.preferred)
            flow.preferred = None

    def _on_silence(self) -> None:
        """One more probe that nothing answered: a stale NAT entry, another network, or no server.

        What replaces it is to carry what the flow is about to send.
        """
        if self._preferring and not self._port.heard:
            self._leave()
        elif self._port.follow():
            pass
        elif len(self._remote.addresses) > 1 and (
            self._silence > SILENT_PROBES or not self.flow.stats.datagrams_in
        ):
            self._leave()
        elif self._silence % SILENT_PROBES == 0:
            self._port.reopen()

    def _leave(self) -> None:
        """Go on at the next address; the flow need not know."""
        self._preferring = False
        self._remote.silences.add(self._port.address, monotonic())
        self._port.reopen(next_address=True)

    def _on_refused(self) -> None:
        """ICMP port unreachable: another address may do better, unless all have said so."""
        self._refusals += 1
        if self._refusals % len(self._remote.addresses) == 0:
            self.flow.refused_by_network(monotonic())
            return
        self._leave()
        flight, self._flight = self._flight, []
        self._port.send(flight)
        self._flight = flight

    def _prefer(self, host: str, port: int) -> None:
        """A server has named an address where it would rather be asked."""
        if self._config.follow_preferred:
            remote = self._remote.preferring(host, port)
            if remote is not None:
                self._remote, self._preferring = remote, True
                self._port.prefer(remote)

    def close(self, *, cancel: bool) -> None:
        """Let go of everything; `cancel` tells the server that nobody waits any more."""
        self._closed = True
        try:
            if cancel:
                self._port.send(self.flow.cancel())
        finally:
            self._port.close()
            self._kept.close()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._tokens.save(*self._place, self.flow.token)

    def explain(self, error: FlowError) -> FlowError:
        """The flow knows no addresses; the user wants to hear which one is silent.

        `errno` of a ConnectError tells refusal (ECONNREFUSED) from silence (ETIMEDOUT).
        """
        if not isinstance(error, ConnectError):
            return error
        silence = f"silence for {self._config.connect_timeout_s:g} s"
        reason = "connection refused" if self._refusals else silence
        told = ConnectError(
            f"no answer from UDP {self._remote} ({reason}); is trickles-serve running there?"
        )
        told.errno = errno.ECONNREFUSED if self._refusals else errno.ETIMEDOUT
        told.__cause__ = error
        return told
