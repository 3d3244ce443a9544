"""A server as its user names it: every address that answers for it, and where to begin."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import itertools
import logging
import random
import socket
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any, Final

from trickles_web.client.url import join_authority
from trickles_web.config import BASE_DATAGRAM, ClientConfig
from trickles_web.transport.continuation import COVER_BYTES
from trickles_web.transport.path_size import PathSize

logger = logging.getLogger("trickles.client")

AVOIDED_S: Final = 30.0
"""An address that was silent is not where a flow begins, for so long."""
MOST_AVOIDED: Final = 256
"""Addresses; the oldest are forgotten."""

SocketAddress = tuple[Any, ...]
"""As the socket module has it: (host, port), or (host, port, flow info, scope) for IPv6."""
Address = tuple[int, SocketAddress]
"""(family, address)."""


class Silences:
    """Which addresses did not answer lately: flows that begin later begin elsewhere."""

    def __init__(self) -> None:
        self._until: dict[Address, float] = {}

    def add(self, address: Address, now: float) -> None:
        self._until.pop(address, None)
        self._until[address] = now + AVOIDED_S
        while len(self._until) > MOST_AVOIDED:
            self._until.pop(next(iter(self._until)), None)

    def discard(self, address: Address) -> None:
        """It has answered."""
        self._until.pop(address, None)

    def holds(self, address: Address, now: float) -> bool:
        return self._until.get(address, 0.0) > now


_silences: Final = Silences()
_turns: Final = itertools.count(random.randrange(1 << 16))


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """A server as the user names it, and every address that it has."""

    host: str
    port: int
    addresses: tuple[Address, ...]
    """In the order to be tried; never empty."""
    equals: int = 1
    """So many, from the first on, are as good as each other: flows are spread over them."""
    silences: Silences = _silences
    """The process's own, unless told."""

    def first(self) -> int:
        """Where the next flow begins: in turn, but not where nobody answered a moment ago."""
        now, turn = monotonic(), next(_turns)
        spread = [(turn + i) % self.equals for i in range(self.equals)]
        for index in itertools.chain(spread, range(self.equals, len(self.addresses))):
            if not self.silences.holds(self.addresses[index], now):
                return index
        return spread[0]

    def path_size(self, config: ClientConfig) -> PathSize:
        """What is known of the way there: loopback carries large datagrams, IPv6 has less room."""
        cover = 0 if config.private is None else COVER_BYTES
        if all(_ip(address).is_loopback for address in self.addresses):
            largest = config.max_loopback_datagram_bytes - cover
            return PathSize(largest, largest, least=BASE_DATAGRAM - cover)
        ipv6 = any(family == socket.AF_INET6 for family, _ in self.addresses)
        most = config.max_ipv6_datagram_bytes if ipv6 else config.max_datagram_bytes
        return PathSize(BASE_DATAGRAM - cover, most - cover, least=BASE_DATAGRAM - cover)

    def preferring(self, host: str, port: int) -> Remote | None:
        """With an address before all others that a server has named; None if it is not to be used.

        A server somewhere in the network must not send its clients to what only they can reach, or
        to many at once (RFC 9000 §21.5.3).
        """
        named = ipaddress.ip_address(host)
        local = named.is_loopback or named.is_link_local
        if local and not all(_ip(address).is_loopback for address in self.addresses):
            return None
        if named.is_multicast or named.is_unspecified or not port:
            return None
        family = socket.AF_INET6 if named.version == 6 else socket.AF_INET
        address = (int(family), (host, port, 0, 0) if named.version == 6 else (host, port))
        if address in self.addresses or self.silences.holds(address, monotonic()):
            return None
        return dataclasses.replace(self, addresses=(address, *self.addresses))

    def __str__(self) -> str:
        return join_authority(self.host, self.port)


def _ip(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address[1][0].partition("%")[0])


async def resolve(host: str, port: int, config: ClientConfig, *, family: int = 0) -> Remote:
    """Look up the name, and those of `config.replicas`.

    Raises socket.gaierror, as asyncio.open_connection does, if none of them has an address.
    """
    loop = asyncio.get_running_loop()

    async def look_up(host: str, port: int) -> list[Address]:
        with _bad_names():
            found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
        return _addresses(found)

    names = [(host, port), *config.replicas]
    return _remote(
        names, await asyncio.gather(*(look_up(*n) for n in names), return_exceptions=True)
    )


def resolve_blocking(host: str, port: int, config: ClientConfig) -> Remote:
    """The same, however long that takes."""
    names = [(host, port), *config.replicas]
    found: list[list[Address] | BaseException] = []
    for name in names:
        try:
            with _bad_names():
                found.append(_addresses(socket.getaddrinfo(*name, type=socket.SOCK_DGRAM)))
        except OSError as error:
            found.append(error)
    return _remote(names, found)


@contextlib.contextmanager
def _bad_names() -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:  # a label that IDNA cannot encode
        raise socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}") from None


def _addresses(found: Sequence[tuple[Any, ...]]) -> list[Address]:
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
    return [(int(entry[0]), entry[4]) for entry in found]


def _remote(
    names: Sequence[tuple[str, int]], found: Sequence[list[Address] | BaseException]
) -> Remote:
    """Of each name those addresses come first that the system prefers by family (RFC 6724)."""
    best: dict[Address, None] = {}
    others: dict[Address, None] = {}
    for name, addresses in zip(names, found, strict=True):
        if isinstance(addresses, BaseException):
            if not isinstance(addresses, OSError) or len(names) == 1:
                raise addresses
            logger.warning("Going without %s: %s", join_authority(*name), addresses)
            continue
        for address in addresses:
            (best if address[0] == addresses[0][0] else others)[address] = None
    if not best:
        raise socket.gaierror(socket.EAI_NONAME, "none of these names has an address")
    everything = dict.fromkeys((*best, *others))
    return Remote(*names[0], tuple(everything), len(best))
