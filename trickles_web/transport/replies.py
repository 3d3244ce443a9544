"""What a server says without DATA: ACK, NEED, WAIT, REFUSED, PREFERRED. Nothing of it is spent, and
no answer is longer than what it answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trickles_web.config import TransportConfig
from trickles_web.transport import continuation as sealing
from trickles_web.transport import wire
from trickles_web.transport.continuation import CLOSES, COMPLETE, OPEN, PRIVATE, REFRESHED
from trickles_web.transport.keys import Keyring
from trickles_web.transport.presented import first
from trickles_web.transport.redeemed import UNLIMITED, Redeemed
from trickles_web.transport.wire import Code


class Replies:
    """Of one server."""

    def __init__(self, config: TransportConfig, keyring: Keyring, replica: int) -> None:
        self.config = config
        self.replica = replica
        """32 random bits."""
        self.counters: Counter[str] = Counter()
        self._keyring = keyring

    def acknowledge(
        self,
        redeemed: Redeemed,
        held: int,
        progress: bytes,
        now: int,
        *,
        complete: bool = False,
        room: int = -1,
        taken: bool = True,
    ) -> bytes | None:
        """ACK: request bytes held, and a continuation that is fresh and proves this address.

        room: bytes of an open request that are taken beyond, -1 if it is not open. taken: these
        UPLOADs are here whole, so they need not come again.
        """
        c = redeemed.continuation or first(redeemed)
        end = c.response_end
        if progress != redeemed.progress:
            end = -1  # another exchange: the end sealed before was that of the last one
        channel = redeemed.channel
        private = 0 if channel is None else PRIVATE
        state = COMPLETE if complete else OPEN if room >= 0 else c.flags & OPEN
        refreshed = c.renewed(
            flags=REFRESHED | state | private | c.flags & (CLOSES | sealing.FOLLOWED),
            key_generation=self._keyring.generation(now),
            replica=self.replica,
            minted=now,
            host_tag=redeemed.host_tag,
            port=redeemed.address[1],
            request_wanted=held,
            response_end=end,
            round_trip=redeemed.round_trip,
        )
        numbers = redeemed.numbers if taken else ()
        blob = sealing.seal(self._keyring, refreshed, progress, len(progress))
        if channel is not None:
            blob += channel.ticket
        ack = wire.Ack(redeemed.flow, complete, held, room, numbers, blob)
        reply = wire.encode_ack(ack)
        if len(reply) > redeemed.room:
            reply = wire.encode_ack(ack._replace(continuation=b""))
        return self._fits(redeemed, reply)

    def come_back(self, redeemed: Redeemed, now: int) -> bytes | None:
        """ACK that takes nothing: the same request again, please, with a fresh continuation."""
        c = redeemed.continuation
        held = 0 if c is None else c.request_wanted
        complete = c is not None and bool(c.flags & COMPLETE)
        return self.acknowledge(redeemed, held, redeemed.progress, now, complete=complete)

    def wait(self, redeemed: Redeemed, milliseconds: int, now: int) -> bytes | None:
        """WAIT: the request is kept, or not, but nothing of it is spent; repeat it after this time.

        A request that waits for long would grow old: then the client gets a fresh continuation.
        """
        c = redeemed.continuation
        if c is None or now - c.minted > self.config.replay_horizon_ms // 2:
            return self.come_back(redeemed, now)
        generation = c.generation & 0xFFFF_FFFF
        return self._fits(
            redeemed,
            wire.encode_wait(
                wire.Wait(redeemed.flow, c.ordinal, generation, c.stop, min(milliseconds, 65_535))
            ),
        )

    def need(self, redeemed: Redeemed, ranges: Sequence[tuple[int, int]]) -> bytes | None:
        """NEED: request bytes that are not here: send them again, with the continuation."""
        return self._fits(redeemed, wire.encode_need(redeemed.flow, ranges))

    def refuse(self, redeemed: Redeemed, code: Code, retry_after: int = 0) -> bytes | None:
        """REFUSED, with the request's hash, so that only who saw the request can say it."""
        self.counters[code.name.lower()] += 1
        return self._fits(redeemed, self._refused(redeemed.datagram, code, retry_after))

    def prefer(self, redeemed: Redeemed) -> bytes | None:
        """PREFERRED: where this server would rather be asked; None if that is where it is."""
        if not self.config.preferred:
            return None
        message = wire.Preferred(
            redeemed.flow, wire.echo_of(redeemed.datagram), self.config.preferred
        )
        return self._fits(redeemed, wire.encode_preferred(message))

    def _fits(self, redeemed: Redeemed, reply: bytes) -> bytes | None:
        size = len(reply) + redeemed.cover
        if size > min(len(redeemed.datagram), redeemed.allowance):
            self.counters["too_long"] += 1
            return None
        if redeemed.allowance != UNLIMITED:
            redeemed.allowance -= size
        return reply if redeemed.channel is None else redeemed.channel.seal(reply)

    def _refused(self, datagram: bytes, code: Code, retry_after: int) -> bytes:
        flow, after = wire.flow_of(datagram), min(retry_after, 65_535)
        return wire.encode_refused(wire.Refused(flow, code, after, wire.echo_of(datagram)))
