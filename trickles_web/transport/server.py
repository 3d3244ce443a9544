"""The server's side: two pure steps, and no connection anywhere.

    redeem(datagram, address, now) -> Redeemed | Refusal     checks everything, spends nothing
    burst(redeemed, response, now) -> trains of datagrams    spends, seals, and lays out the bytes

What comes between, fetching the bytes, may take its time. Only `burst` marks a claim as spent, in
the step that also tests it, so of concurrent duplicates one wins; a request that no data packet
answers is not spent, and may be repeated.

Cheap checks come first: length, version, kind, age; then the seal; then the replay filter, and the
proof of receipt last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final

from trickles_web.config import BASE_DATAGRAM, TransportConfig
from trickles_web.errors import ContinuationError, ResponseGone, WireError
from trickles_web.transport import continuation as sealing
from trickles_web.transport import note as notes
from trickles_web.transport import wire
from trickles_web.transport.claimed import marks_of
from trickles_web.transport.claims import claims, first_contact, opening, probe_key
from trickles_web.transport.continuation import (
    CLOSES,
    COMPLETE,
    COVER_BYTES,
    OPEN,
    PRIVATE,
    Continuation,
)
from trickles_web.transport.epochs import Span
from trickles_web.transport.keys import Keyring
from trickles_web.transport.layout import write_answer
from trickles_web.transport.presented import AMPLIFICATION, Arrived, knows, present
from trickles_web.transport.private.channel import Privacy
from trickles_web.transport.private.cover import is_private
from trickles_web.transport.redeemed import (
    UNLIMITED,
    Address,
    Answer,
    Channel,
    Redeemed,
    Refusal,
    Response,
    Train,
)
from trickles_web.transport.refused import RefusedError
from trickles_web.transport.replay import ReplayFilter
from trickles_web.transport.replies import Replies
from trickles_web.transport.wire import Code, Kind

__all__ = ["Redeemed", "Refusal", "Response", "Server", "Train"]

_REASONS: Final = {
    "truncated": Code.FORGED,
    "forged": Code.FORGED,
    "secret": Code.FORGED,
    "expired": Code.EXPIRED,
}
_SILENT: Final = frozenset({Code.SPENT})


class Server(Replies):
    """Answers datagrams. Holds keys, a replay filter and counters; nothing about any flow."""

    def __init__(
        self,
        config: TransportConfig,
        keyring: Keyring,
        replay: ReplayFilter,
        replica: int,
        random: Callable[[int], bytes],
        store: int,
        privacy: Privacy | None = None,
    ) -> None:
        """`replica` and `store` are 32-bit random numbers; `random(n)` gives n random bytes.
        `privacy`: serves private flows too.
        """
        super().__init__(config, keyring, replica)
        self.store = store
        """Named in continuations: an unsafe request runs only where it was first sent."""
        self._replay = replay
        self._random = random
        self._privacy = privacy
        self._redeemers: dict[int, Callable[[Arrived], Redeemed]] = {
            Kind.HELLO: self._hello,
            Kind.REQUEST: self._request,
            Kind.UPLOAD: self._upload,
            Kind.CANCEL: self._cancel,
        }

    # ---- step one

    def renewed(self, store: int) -> None:
        """What this service keeps has another name from now on: unsafe requests begun before
        are refused.
        """
        self.store = store

    def opened(self, datagram: bytes, now: int) -> tuple[bytes, Channel | None]:
        """What a private datagram says, and the channel in which it does; itself and None if it
        cannot be opened, or need not. Never raises.
        """
        if self._privacy is None or not is_private(datagram):
            return datagram, None
        try:
            return self._privacy.opened(datagram, now)
        except (ContinuationError, WireError):
            return datagram, None  # `redeem` says why

    def redeem(
        self, datagram: bytes, address: Address, now: int, channel: Channel | None = None
    ) -> Redeemed | Refusal:
        """Check one datagram; `now` is wall-clock ms. Never raises, whatever the bytes.

        channel: what was `opened` before, and this is what it says.
        """
        message = datagram
        try:
            if self._privacy is not None and is_private(datagram):
                kind = datagram[0] & 15
                if kind not in self._redeemers:
                    return self._drop("kind")
                if kind == Kind.HELLO and len(datagram) < BASE_DATAGRAM:
                    raise WireError("hello")
                message, channel = self._privacy.opened(datagram, now)
            redeemer = self._redeemers.get(wire.kind_of(message))
            if redeemer is None:
                return self._other(message, channel, now)
            if channel is None and not self.config.cleartext:
                raise RefusedError(Code.CLEARTEXT)
            if self._replay.turn(now):
                self.counters["filter_full"] += 1
            return redeemer(Arrived(datagram, message, channel, address, now))
        except RefusedError as error:
            self.counters[error.code.name.lower()] += 1
            if error.code in _SILENT:
                return Refusal(error.code.name.lower())
            return self._refusal(datagram, channel, error.code, error.retry_after)
        except WireError as error:
            if str(error) == "version" and len(datagram) >= BASE_DATAGRAM:
                self.counters["version"] += 1
                return self._refusal(datagram, None, Code.VERSION)
            return self._drop(str(error))
        except ContinuationError as error:
            self.counters[error.reason] += 1
            return self._refusal(datagram, channel, _REASONS[error.reason], reason=error.reason)

    def _other(self, message: bytes, channel: Channel | None, now: int) -> Refusal:
        """Nothing that could be redeemed."""
        asks = wire.kind_of(message) == Kind.IDENTIFY
        if not asks or channel is not None or self._privacy is None:
            # Never answer what a server sends, or two servers could be made to talk for ever.
            return self._drop("kind")
        self.counters["identify"] += 1
        return Refusal("identify", self._privacy.told(message, now))

    def _refusal(
        self,
        datagram: bytes,
        channel: Channel | None,
        code: Code,
        retry_after: int = 0,
        reason: str = "",
    ) -> Refusal:
        reply = self._refused(datagram, code, retry_after)
        if channel is not None:
            reply = channel.seal(reply)
        reason = reason or code.name.lower()
        return Refusal(reason, reply if len(reply) <= len(datagram) else None)

    def _drop(self, reason: str) -> Refusal:
        self.counters[reason] += 1
        return Refusal(reason)

    def _hello(self, arrived: Arrived) -> Redeemed:
        """First contact. A good address token lets safe requests run at once."""
        datagram, message, channel, address, now = arrived
        if len(datagram) < BASE_DATAGRAM:
            raise WireError("hello")
        m = wire.decode_hello(message)
        # The filter knows a HELLO by its bytes: a copy made on the way is not served again.
        mark = b"h" + hashlib.blake2b(datagram, digest_size=12).digest()
        if mark in self._replay:
            raise RefusedError(Code.SPENT)
        keys = self._keyring.current(now)
        incarnation = int.from_bytes(self._random(8), "big")
        key_generation = self._keyring.generation(now)
        if channel is not None:
            channel.begin(incarnation, now)
        size = BASE_DATAGRAM - (0 if channel is None else COVER_BYTES)
        answer = first_contact(m.attempt, incarnation, mark, keys, key_generation, size)
        return Redeemed(
            kind=Kind.HELLO,
            flow=m.flow,
            incarnation=incarnation,
            address=address,
            progress=b"",
            origin=m.origin,
            request_bytes=m.request,
            wants=answer.wants,
            may_run=bool(m.token) and knows(m.token, address, now, self.config, self._keyring),
            fresh=True,
            store=self.store,
            datagram=datagram,
            message=message,
            channel=channel,
            at=now,
            marks=self._replay.marks,
            answers=(answer,),
            allowance=AMPLIFICATION * len(datagram),
            host_tag=keys.address_tag(address[0]),
            attempt=m.attempt,
            asked_size=m.size,
        )

    def _request(self, arrived: Arrived) -> Redeemed:
        m = wire.decode_request(arrived.message)
        if not m.wants or max(m.request_offset, m.received) >= wire.OPEN_END:
            raise RefusedError(Code.CLAIM)
        presented = (m.flow, m.continuation, arrived)
        redeemed, c = present(Kind.REQUEST, *presented, self.config, self._keyring)
        if m.opens:
            redeemed.padding = 0
        redeemed.answers = self._answers(m, redeemed, c)
        redeemed.attempt = m.attempt
        redeemed.asked_size = m.size
        redeemed.wants = m.wants
        redeemed.received = m.received
        redeemed.edition = m.edition
        redeemed.handed_on = m.handed_on
        redeemed.repeated = m.repeated
        redeemed.request_offset = m.request_offset
        redeemed.request_bytes = m.request
        redeemed.request_digest = m.digest
        redeemed.noted = m.note is not None
        if m.note:
            redeemed.note = notes.unseal(self._keyring, m.note, c.incarnation, arrived.now)
        return redeemed

    def _answers(self, m: wire.Request, redeemed: Redeemed, c: Continuation) -> tuple[Answer, ...]:
        """What the request is worth by what the replay filter knows now."""
        now = redeemed.at
        fresh = redeemed.fresh and c.minted >= self._replay.remembers_from
        redeemed.marks = self._replay.marks
        if not m.opens:
            return claims(m, c, self._keyring, self._replay, self.replica, now, fresh)
        size = c.size
        if m.size >= BASE_DATAGRAM - redeemed.cover:
            size = min(m.size, self._largest(redeemed))
        return opening(m, c, size, self._keyring, self._replay, self.replica, now, fresh)

    def _largest(self, redeemed: Redeemed) -> int:
        """Bytes of DATA that may go to this address."""
        return self.config.largest_datagram(redeemed.address[0]) - redeemed.cover

    def _still(self, redeemed: Redeemed, now: int) -> tuple[Answer, ...]:
        """The answers, judged again if what they depend on was spent since they were judged."""
        replay, answers = self._replay, redeemed.answers
        if redeemed.marks == replay.marks:
            return answers
        c = redeemed.continuation
        try:
            if redeemed.at < max(replay.remembers_from, now - self.config.replay_horizon_ms):
                raise RefusedError(Code.EXPIRED)
            if not any(replay.has_any(answer.absent) for answer in answers):
                return answers
            if c is None:
                raise RefusedError(Code.SPENT)
            return self._answers(wire.decode_request(redeemed.message), redeemed, c)
        except RefusedError as error:
            self.counters[error.code.name.lower()] += 1
            return ()

    def _upload(self, arrived: Arrived) -> Redeemed:
        m = wire.decode_upload(arrived.message)
        if m.offset >= wire.OPEN_END:
            raise RefusedError(Code.CLAIM)
        presented = (m.flow, m.continuation, arrived)
        redeemed, _ = present(Kind.UPLOAD, *presented, self.config, self._keyring)
        redeemed.request_offset = m.offset
        redeemed.request_bytes = m.request
        redeemed.request_digest = m.digest
        redeemed.numbers = (m.number,)
        return redeemed

    def _cancel(self, arrived: Arrived) -> Redeemed:
        m = wire.decode_cancel(arrived.message)
        presented = (m.flow, m.continuation, arrived)
        return present(Kind.CANCEL, *presented, self.config, self._keyring)[0]

    # ---- step two

    def burst(self, redeemed: Redeemed, response: Response, now: int) -> list[Train]:
        """Send what the response has; [] when it has nothing, or when a duplicate was faster.

        Raises ResponseGone, from `response.read`, before anything is marked as spent.
        """
        trains: list[Train] = []
        for answer in self._still(redeemed, now):
            room = redeemed.allowance // (answer.size + redeemed.cover)
            count = min(answer.high - answer.low, room)
            if redeemed.edition not in (0, response.edition):
                # The client's bytes are of another run: this one is served from where it joins.
                answer.wants = ((response.joins, wire.OPEN_END),)
            written = self._write(redeemed, answer, response, count, now)
            if not written:
                continue
            if redeemed.channel is not None:
                written = redeemed.channel.sealed(written)
            for mark in marks_of(answer):
                self._replay.add(mark)
            if redeemed.allowance != UNLIMITED:
                redeemed.allowance -= sum(sum(map(len, train.buffers)) for train in written)
            trains += written
        return trains

    def _write(
        self, redeemed: Redeemed, answer: Answer, response: Response, count: int, now: int
    ) -> list[Train]:
        probe = self._probe(redeemed, answer)
        try:
            written = write_answer(
                answer,
                response,
                count,
                flow=redeemed.flow,
                padding=redeemed.padding,
                keyring=self._keyring,
                mint=partial(self._mint, redeemed, response, answer, now),
                ticket=b"" if redeemed.channel is None else redeemed.channel.ticket,
                probe=probe,
            )
        except ResponseGone:
            if answer is redeemed.answers[-1]:
                raise
            return []  # an earlier claim, repeated in vain: its bytes arrived, and are forgotten
        if written and probe:
            self._replay.add(probe_key(redeemed.incarnation, answer))
        return written

    def _mint(
        self,
        redeemed: Redeemed,
        response: Response,
        answer: Answer,
        now: int,
        span: Span,
        padding: int,
        followed: bool,
    ) -> Continuation:
        """The continuation of one burst of this answer."""
        flags = (OPEN if response.open else COMPLETE) | sealing.FOLLOWED * followed
        if redeemed.channel is not None:
            flags |= PRIVATE
        return Continuation(
            flags | (CLOSES if response.closes else 0),
            self._keyring.generation(now),
            self.replica,
            redeemed.incarnation,
            answer.ordinal,
            answer.generation,
            span.epoch,
            answer.size,
            padding,
            answer.nonce_generation,
            span.start,
            span.stop,
            answer.paid,
            now,
            response.authorised_at,
            redeemed.host_tag,
            redeemed.address[1],
            self.store,
            response.request_wanted,
            -1 if response.end is None else response.end,
            response.edition,
            redeemed.round_trip,
        )

    def _probe(self, redeemed: Redeemed, answer: Answer) -> int:
        """Size of a padded packet that shows the client what its path carries; 0: none.

        It comes on top of the window, so few do.
        """
        if redeemed.allowance != UNLIMITED or answer is not redeemed.answers[-1]:
            return 0
        size = min(redeemed.asked_size, self._largest(redeemed))
        if size <= answer.size or probe_key(redeemed.incarnation, answer) in self._replay:
            return 0
        return size
