"""Somebody on the path who changes private datagrams, all the time, and what comes of it.

Each datagram arrives, but before it come some that were made of it: bits flipped, cut, lengthened,
with parts of others in their places, sent to the other side. A server must take none of them; of
a client's bytes none must change, and no flow may end for it. (What is said in clear is left alone:
that a changed introduction is not believed is for `tests/transport/private/test_client.py`.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.sim.world import Client, Config, World
from trickles_web.testing.network import Path
from trickles_web.transport.continuation import TICKET_BYTES
from trickles_web.transport.private.cover import NONCE_BYTES, is_private
from trickles_web.transport.redeemed import Redeemed
from trickles_web.transport.wire import START_BYTES

SHARE = 3
"""Changed ones for each that is sent."""
_PATH = Path(delay=0.005, loss=0.01, request_loss=0.01, reorder=0.05, duplicate=0.02)
_TICKET_END = START_BYTES + TICKET_BYTES
_CUTS = (1, START_BYTES, START_BYTES + NONCE_BYTES, _TICKET_END, _TICKET_END + NONCE_BYTES)
"""Where parts of a datagram end."""


class Tampered(World):
    """A world with somebody between its two sides. `taken`: changed ones that a server took."""

    def __init__(self, seed: int, config: Config) -> None:
        super().__init__(seed, config)
        self.trials: Counter[str] = Counter()
        self.taken: list[bytes] = []
        self._seen: list[bytes] = []
        """Some of both directions, of all flows."""
        others = (self._cut, self._lengthen, self._splice, self._other)
        self._changes: tuple[Callable[[bytes], bytes], ...] = (self._flip,) * 3 + others

    def up(self, datagram: bytes, client: Client) -> None:
        for changed in self._changed(datagram):
            replica = self.clock.random.choice(self.replicas)
            result = replica.server.redeem(changed, client.address, self.wall())
            if isinstance(result, Redeemed) and changed not in self._seen:
                self.taken.append(changed)
        super().up(datagram, client)

    def down(self, datagram: bytes, address: tuple[str, int]) -> None:
        client = self.clients[address]
        for changed in self._changed(datagram):
            client.receive(changed)
        super().down(datagram, address)

    def _changed(self, datagram: bytes) -> list[bytes]:
        """Of a private datagram; what both sides say in clear goes unchanged."""
        if not is_private(datagram):
            return []
        draw = self.clock.random
        if len(self._seen) < 200:
            self._seen.append(datagram)
        else:
            self._seen[draw.randrange(200)] = datagram
        made = []
        for _ in range(SHARE):
            change = draw.choice(self._changes)
            changed = change(datagram)
            if changed != datagram:
                self.trials[change.__name__.strip("_")] += 1
                made.append(changed)
        return made

    def _flip(self, datagram: bytes) -> bytes:
        changed = bytearray(datagram)
        for _ in range(self.clock.random.choice((1, 1, 1, 2, 30))):
            changed[self.clock.random.randrange(len(changed))] ^= 1 << self.clock.random.randrange(
                8
            )
        return bytes(changed)

    def _cut(self, datagram: bytes) -> bytes:
        return datagram[: self.clock.random.randrange(len(datagram))]

    def _lengthen(self, datagram: bytes) -> bytes:
        return datagram + self.clock.bytes(self.clock.random.randrange(1, 40))

    def _splice(self, datagram: bytes) -> bytes:
        """With a part of another one, of this flow or of any, in either direction."""
        draw, other = self.clock.random, self.clock.random.choice(self._seen)
        first, last = sorted(draw.sample((0, *_CUTS, max(len(datagram), len(other))), 2))
        return datagram[:first] + other[first:last] + datagram[last:]

    def _other(self, datagram: bytes) -> bytes:
        """Another one instead, with the start of this: of another flow, or of the other side."""
        return datagram[:START_BYTES] + self.clock.random.choice(self._seen)[START_BYTES:]


def tampered(trials: int, seed: int) -> tuple[Counter[str], list[str]]:
    """So many datagrams with flipped bits and more than as many that were changed otherwise, all by
    what was done to them; and every rule that was broken.

    Flows must be private: see `conftest`.
    """
    broken: list[str] = []
    done: Counter[str] = Counter()
    while done["flip"] < trials and not broken:
        world = Tampered(seed, Config(path=_PATH, replicas=2))
        clients = [
            world.add([(40_000, 300, 0), (300, 900, 0), (9000, 0, 0)], at=n / 50) for n in range(6)
        ]
        if not world.run(300):
            broken.append(f"seed {seed}: a flow hangs")
        broken += [f"seed {seed}: a server took {one.hex()}" for one in world.taken]
        for client in clients:
            if client.wrong:
                broken.append(f"seed {seed}: a client read other bytes")
            if client.flow.error is not None:
                broken.append(f"seed {seed}: {client.flow.error!r}")
        done += world.trials
        seed += 1
    return done, broken
