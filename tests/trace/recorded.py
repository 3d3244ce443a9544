"""Simulated transfers, recorded at the client, and what the simulation itself knows of them."""

from __future__ import annotations

import io
from collections import Counter

from tests.sim.world import Client, Config, World
from trickles_web.testing.network import Path
from trickles_web.trace.marks import Marks
from trickles_web.trace.packets import datagrams
from trickles_web.trace.pcap import frames
from trickles_web.trace.recording import Recording
from trickles_web.trace.rows import Row
from trickles_web.trace.seen import Seen, decoded
from trickles_web.trace.telling import Stories, tell
from trickles_web.transport.wire import FLAG_PROBE, Data

SERVER = ("10.1.0.0", 8000)


class Recorded(World):
    """Records at the client, and, if told, at the servers; knows the fate of each DATA."""

    def __init__(self, seed: int, config: Config, *, at_servers: bool = False) -> None:
        super().__init__(seed, config)
        self.lost: list[Data] = []
        self.carried: list[Data] = []
        self._at_servers = at_servers
        self._file = io.BytesIO()
        self._recording = Recording(self._file, lambda: int(self.clock.now * 1e9) + 10**18)

    def up(self, datagram: bytes, client: Client) -> None:
        if not self._at_servers:
            self._recording.sent([datagram], client.address, SERVER)
        replica = self.clock.random.choice(self.replicas)

        def arrive(datagram: bytes) -> None:
            if self._at_servers:
                self._recording.sent([datagram], client.address, SERVER)
            replica.receive(datagram, client.address)

        self.up_link.send(datagram, arrive)

    def down(self, datagram: bytes, address: tuple[str, int]) -> None:
        client = self.clients[address]
        if self._at_servers:
            self._recording.received(datagram, len(datagram), address, SERVER)

        def arrive(datagram: bytes) -> None:
            if not self._at_servers:
                self._recording.received(datagram, len(datagram), address, SERVER)
            client.receive(datagram)

        carried = self.down_link.send(datagram, arrive)
        message = decoded(datagram)
        if isinstance(message, Data) and not message.flags & FLAG_PROBE:
            (self.carried if carried else self.lost).append(message)

    @property
    def capture(self) -> bytes:
        return self._file.getvalue()


def transfer(
    seed: int,
    *,
    size: int = 400_000,
    body: int = 0,
    pause_ms: int = 0,
    loss: float = 0.0,
    request_loss: float = 0.0,
    reorder: float = 0.0,
    replicas: int = 1,
    kill_every: float = 0.0,
    at_servers: bool = False,
) -> Recorded:
    """One exchange that is over. All of its bytes were right."""
    path = Path(loss=loss, request_loss=request_loss, reorder=reorder)
    config = Config(path, replicas, kill_every=kill_every)
    world = Recorded(seed, config, at_servers=at_servers)
    client = world.add([(size, body, pause_ms)])
    assert world.run(300)
    assert client.wrong == 0
    return world


def seen(capture: bytes) -> list[Seen]:
    return list(datagrams(frames(io.BytesIO(capture))))


class Told:
    """The story of the one flow of a capture."""

    def __init__(self, capture: bytes, *, packets: bool = False) -> None:
        self.rows: list[Row] = []
        self.marks = Marks()
        stories = Stories()
        tell(seen(capture), stories, self.rows.append, packets=packets, marks=self.marks)
        [self.story] = stories.flows.values()
        self.totals = self.story.totals
        self.summary = "\n".join(stories.summary(self.story))

    def texts(self, what: str) -> list[str]:
        return [row.text for row in self.rows if row.what == what]

    def numbers_lost(self) -> list[int]:
        """As the rows name them."""
        found: list[int] = []
        for text in self.texts("lost"):
            for part in text.partition(" ")[2].split(", "):
                first, _, last = part.replace(",", "").partition("-")
                found += range(int(first), int(last or first) + 1)
        return found


def numbers(packets: list[Data]) -> list[int]:
    return [data.burst + data.place for data in packets]


def shares(packets: list[Data]) -> Counter[int]:
    """Response bytes by replica."""
    counts: Counter[int] = Counter()
    for data in packets:
        counts[data.replica] += len(data.payload)
    return counts
