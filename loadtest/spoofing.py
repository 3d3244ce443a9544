"""Datagrams in the name of others, as a process in a namespace whose link leads to the server.

    python -m loadtest.spoofing HOST PORT NEAR NEAR_PORT SHOTS AGE

By raw sockets, each from another address of 11.0.0.0/8, to which the server's replies take this
link: there they are counted. At NEAR:NEAR_PORT another server listens, in whose name the last ones
come. AGE: seconds after which a continuation is presented again as an old one. Prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from loadtest.flows import Crowd
from loadtest.rejection import hello, request
from trickles_web.transport import wire
from trickles_web.transport.wire import VERSION

Address = tuple[str, int]

DEVICE = "em0"
SPOOFED = 11 << 24
SO_RCVBUFFORCE, ALL_PROTOCOLS = 33, 3
"""For less, a packet socket does not see what goes out. These are of <linux/if_ether.h> and
socket.h: `socket` lacks them."""
LARGEST = 1472
AT_ONCE = 64
QUIET_S, WAITED_S = 0.3, 1.5
"""Silence after which no more replies come; where a request waits for a second, longer."""
TOKEN = "HELLO with the token of another"
GET = b"GET /files/1.bin HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow?seconds=1 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
_IP, _UDP = struct.Struct(">BBHHHBBHII"), struct.Struct(">HHHH")


@dataclass(slots=True)
class Shots:
    """Of one kind: how many were sent, how many of them brought anything, and the most that one
    brought for each byte of its own.
    """

    sent: int = 0
    answered: int = 0
    most: float = 0.0


class Spoofer:
    def __init__(self, server: Address) -> None:
        self._server = server
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._line = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS))
        self._line.bind((DEVICE, 0))
        self._line.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self._next = random.SystemRandom().randrange(1 << 20)

    def send(self, datagram: bytes, source: int, port: int) -> bool:
        """Whether it fits the link."""
        to = int.from_bytes(socket.inet_aton(self._server[0]), "big")
        udp = _UDP.pack(port, self._server[1], 8 + len(datagram), 0)
        ip = _IP.pack(0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, source, to)
        with contextlib.suppress(OSError):
            return self._out.sendto(ip + udp + datagram, (self._server[0], 0)) > 0
        return False

    def shoot(self, datagrams: Iterable[bytes], quiet: float = QUIET_S) -> Shots:
        """Each from an address of its own."""
        found = Shots()
        fitting = [datagram for datagram in datagrams if 0 < len(datagram) <= LARGEST]
        for first in range(0, len(fitting), AT_ONCE):
            sent: dict[int, int] = {}
            for datagram in fitting[first : first + AT_ONCE]:
                self._next += 257
                if self.send(datagram, SPOOFED + self._next % (1 << 24), 4711):
                    sent[SPOOFED + self._next % (1 << 24)] = len(datagram)
            back: Counter[int] = Counter()
            for outgoing, _, to, _, size in self.heard(quiet):
                if not outgoing and to in sent:
                    back[to] += size
            found.sent += len(sent)
            found.answered += len(back)
            found.most = max([found.most, *(back[to] / size for to, size in sent.items())])
        return found

    def heard(self, quiet: float) -> Iterable[tuple[bool, int, int, int, int]]:
        """UDP on the line until it is quiet: whether it goes out, source and destination, the
        source's port, and the bytes of payload.
        """
        while select.select([self._line], [], [], quiet)[0]:
            packet, where = self._line.recvfrom(65_535)
            if len(packet) >= 28 and packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP:
                source, to = struct.unpack_from(">II", packet, 12)
                port, _, length, _ = _UDP.unpack_from(packet, 20)
                yield where[2] == socket.PACKET_OUTGOING, source, to, port, length - 8

    def between(self, named: Address, datagrams: list[bytes]) -> tuple[int, int]:
        """All in the name of another server: how many came to that, and how many it sent."""
        source = int.from_bytes(socket.inet_aton(named[0]), "big")
        came = went = sent = 0
        for first in range(0, len(datagrams), AT_ONCE):
            batch = datagrams[first : first + AT_ONCE]
            sent += sum(self.send(datagram, source, named[1]) for datagram in batch)
            for outgoing, _, to, port, _ in self.heard(QUIET_S):
                came += not outgoing and to == source
                went += outgoing and port == named[1]
        return came, went - sent


def stolen(server: Address, shots: int) -> dict[str, list[bytes]]:
    """What flows of ours would send next, by kind: none of it was sent, so none is spent."""
    kinds = ("opening, of a file", "opening, of what waits", "claim", "UPLOAD", "CANCEL", TOKEN)
    found: dict[str, list[bytes]] = {kind: [] for kind in kinds}
    crowd = Crowd(server, keep_every=1)
    crowd.open(4 * shots)
    for number, flow in enumerate(crowd.kept):
        flow.write((GET, SLOW, POST, GET)[number % 4])
        datagrams = flow.transmit(time.monotonic())
        name = ("opening, of a file", "opening, of what waits", "UPLOAD", "CANCEL")[number % 4]
        if number % 4 == 3:
            datagrams = flow.cancel()
        of_kind = datagrams if name.startswith("opening") else datagrams[-1:]
        found[name] += of_kind[:1]
        found[TOKEN].append(hello(flow.token))
    for opening in found["opening, of a file"]:
        asked = wire.decode_request(opening)
        found["claim"].append(request(asked.continuation, start=asked.start, proof=asked.proof))
    crowd.close()
    return found


def main(server: Address, named: Address, shots: int, age: float) -> dict[str, object]:
    began, spoofer = time.monotonic(), Spoofer(server)
    kinds = stolen(server, shots)
    kinds["HELLO"] = [hello() for _ in range(shots)]
    kinds["garbage"] = [
        bytes([VERSION << 4 | n % 16 if n % 2 else n % 256]) + os.urandom(n * 37 % 1_400)
        for n in range(2 * shots)
    ]
    old = stolen(server, shots)["opening, of a file"] if age else []
    found = {
        kind: spoofer.shoot(datagrams, WAITED_S if "waits" in kind else QUIET_S)
        for kind, datagrams in kinds.items()
    }
    fresh = [datagram for kind in stolen(server, shots).values() for datagram in kind]
    came, went = spoofer.between(named, [*fresh, *kinds["HELLO"], *kinds["garbage"]])
    if age:
        time.sleep(max(0.0, began + age - time.monotonic()))
        found["opening, a minute old"] = spoofer.shoot(old)
    shown = {kind: asdict(shots) for kind, shots in found.items()}
    return {"kinds": shown, "came": came, "went": went}


if __name__ == "__main__":
    host, port, near, near_port, shots, age = sys.argv[1:]
    there, beside = (host, int(port)), (near, int(near_port))
    print(json.dumps(main(there, beside, int(shots), float(age))))
