"""Private flows at a server: datagrams opened, answers sealed, and nothing kept but copies of keys.

    opened(datagram) -> the message, and the channel in which it came
    channel.seal(message), channel.sealed(trains)
    told(IDENTIFY) -> IDENTITY

What is remembered of tickets saves work and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from trickles_web.config import BASE_DATAGRAM
from trickles_web.errors import ContinuationError, WireError
from trickles_web.transport import wire
from trickles_web.transport.continuation import COVER_BYTES, TICKET_BYTES
from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.cover import DOWN, UP, FlowKeys, Nonces
from trickles_web.transport.private.exchange import Exchange, private_key, unseal_hello
from trickles_web.transport.private.ticket import generation_of, open_ticket, seal_ticket
from trickles_web.transport.redeemed import Train
from trickles_web.transport.wire import START_BYTES, Kind

MOST_TICKETS: Final = 1024
"""Opened lately, and remembered: opening one anew and making its keys costs some 5 us."""
_BODY: Final = START_BYTES + TICKET_BYTES


Credentials = Callable[[Keyring, Sequence[Exchange], int], bytes]
"""What a server says of its keys at a time (wall-clock ms), and who vouches for it: see
`trickles_web.credentials`."""


class PrivateChannel:
    """In which one private datagram came, and in which its answers go.

    `incarnation`: 0 for a HELLO, which has none yet. `ticket`: what the client is to have with
    each continuation.
    """

    __slots__ = ("_keyring", "_keys", "_nonces", "incarnation", "ticket")

    def __init__(
        self,
        keys: FlowKeys,
        nonces: Nonces,
        keyring: Keyring,
        incarnation: int = 0,
        ticket: bytes = b"",
    ) -> None:
        self._keys = keys
        self._nonces = nonces
        self._keyring = keyring
        self.incarnation = incarnation
        self.ticket = ticket

    def begin(self, incarnation: int, now: int) -> None:
        """The HELLO that came in it is to be answered: its flow is known from now on."""
        self.incarnation = incarnation
        self.renew(now)

    def renew(self, now: int) -> None:
        """The ticket anew, sealed with what is current at this time (wall-clock ms)."""
        self.ticket = seal_ticket(self._keyring, self.incarnation, self._keys.secret, now)

    def seal(self, message: bytes) -> bytes:
        return self._keys.seal(DOWN, message, b"", self._nonces)

    def sealed(self, trains: Sequence[Train]) -> list[Train]:
        """The same trains, each datagram sealed."""
        done = []
        for train in trains:
            whole, segment = b"".join(train.buffers), train.segment
            datagrams: list[bytes | memoryview] = [
                self.seal(whole[at : at + segment]) for at in range(0, len(whole), segment)
            ]
            done.append(Train(segment + COVER_BYTES, train.count, datagrams))
        return done


class Privacy:
    """A server's part in private flows. `random(n)`: n random bytes."""

    def __init__(
        self,
        keyring: Keyring,
        credentials: Credentials,
        random: Callable[[int], bytes],
        exchanges: Sequence[Exchange] = (Exchange.X25519,),
        *,
        most_tickets: int = MOST_TICKETS,
    ) -> None:
        self._keyring = keyring
        self._credentials = credentials
        self._exchanges = exchanges
        self._nonces = Nonces(random)
        self._most_tickets = most_tickets
        self._tickets: dict[bytes, tuple[int, FlowKeys]] = {}
        self._generation = -1
        self._private: dict[tuple[int, Exchange], Any] = {}
        self._told: tuple[int, bytes, bytes] = (-1, b"", b"")
        """Credentials of a key generation, and their name."""

    def forked(self) -> None:
        """As of the keyring: a child must not count on where its parent does."""
        self._nonces.forked()

    def opened(self, datagram: bytes, now: int) -> tuple[bytes, PrivateChannel]:
        """Raises ContinuationError, for what no key of this service opens, and WireError."""
        if datagram[0] & 15 == Kind.HELLO:
            message, secret = unseal_hello(datagram, partial(self._key_of, now))
            return message, PrivateChannel(FlowKeys(secret), self._nonces, self._keyring)
        ticket, generation = datagram[START_BYTES:_BODY], self._keyring.generation(now)
        if generation != self._generation:
            self._generation = generation
            self._tickets.clear()  # some may be too old from now on
        known = self._tickets.get(ticket)
        if known is None:
            known = self._remember(ticket, now)
        incarnation, keys = known
        message = keys.unseal(UP, datagram, _BODY)
        channel = PrivateChannel(keys, self._nonces, self._keyring, incarnation, ticket)
        if generation_of(ticket) != generation:
            channel.renew(now)
        return message, channel

    def _remember(self, ticket: bytes, now: int) -> tuple[int, FlowKeys]:
        incarnation, secret = open_ticket(self._keyring, ticket, now)
        if len(self._tickets) >= self._most_tickets:
            self._tickets.clear()
        known = self._tickets[ticket] = (incarnation, FlowKeys(secret))
        return known

    def _key_of(self, now: int, generation: int, exchange: Exchange) -> Any:
        """The private key. Raises ContinuationError."""
        keys = self._keyring.at(generation, now)
        if exchange not in self._exchanges:
            raise ContinuationError("secret")
        key = self._private.get((generation, exchange))
        if key is None:
            if len(self._private) >= 16:  # some generations of each
                self._private.clear()
            key = self._private[generation, exchange] = private_key(exchange, keys.exchange_seed)
        return key

    def told(self, datagram: bytes, now: int) -> bytes:
        """The answer to IDENTIFY, no longer than that. Raises WireError."""
        if len(datagram) < BASE_DATAGRAM:
            raise WireError("identify")
        message = wire.decode_identify(datagram)
        generation = self._keyring.generation(now)
        if self._told[0] != generation:
            blob = self._credentials(self._keyring, self._exchanges, now)
            name = hashlib.blake2b(blob, digest_size=8).digest()
            self._told = (generation, blob, name)
        _, blob, name = self._told
        room = wire.identity_room(len(datagram))
        part = blob[message.offset : message.offset + room]
        return wire.encode_identity(
            wire.Identity(message.flow, name, len(blob), message.offset, part)
        )
