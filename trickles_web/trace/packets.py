"""From captured frames to datagrams: links, IP, UDP, and trains that were captured as one."""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from trickles_web.trace.frames import CaptureError, Frame
from trickles_web.trace.pcap import LINK_RAW
from trickles_web.trace.seen import Address, Seen, is_up
from trickles_web.transport import wire
from trickles_web.transport.private.cover import PRIVATE
from trickles_web.transport.wire import START_BYTES, VERSION

_IP_AT: Final = {0: 4, 1: 14, 12: 0, 14: 0, LINK_RAW: 0, 108: 4, 113: 16, 228: 0, 229: 0, 276: 20}
"""Link type -> bytes before the IP header. BSD's loopback, Ethernet, none, Linux's "any"."""
_ETHERNET: Final = 1
_VLAN: Final = (b"\x81\x00", b"\x88\xa8")
_UDP: Final = 17
_EXTENSIONS: Final = {0, 43, 60}
"""Headers of IPv6 that tell their own length: hop-by-hop, routing, destination."""
_FRAGMENT: Final = 44
_MOST_EXTENSIONS: Final = 8
_UDP_HEADER: Final = struct.Struct(">HHHH")
_IPV4: Final = struct.Struct(">BBHHHBBH4s4s")
_IPV6: Final = struct.Struct(">IHBB16s16s")


def datagrams(frames: Iterable[Frame]) -> Iterator[Seen]:
    """Those of Trickles. What was cut short by the capture is as long as it was, with zeros.

    Raises CaptureError for a link that is not known.
    """
    for frame in frames:
        found = _udp(frame)
        if found is None:
            continue
        source, target, payload = found
        for datagram in _train(payload):
            client, server = (source, target) if is_up(datagram) else (target, source)
            yield Seen(frame.at, client, server, datagram)


def _udp(frame: Frame) -> tuple[Address, Address, bytes] | None:
    """(from, to, payload); None if it is something else."""
    at = _IP_AT.get(frame.link)
    if at is None:
        raise CaptureError(
            f"the capture is of a link of type {frame.link}, which is not known here; "
            "capture with tcpdump -i any"
        )
    data = frame.data
    while frame.link == _ETHERNET and data[at - 2 : at] in _VLAN:
        at += 4
    try:
        hosts, at = _ip(data, at)
        ports = _UDP_HEADER.unpack_from(data, at)
    except (struct.error, _OtherPacket, IndexError):
        return None
    stop = at + ports[2]
    payload = data[at + _UDP_HEADER.size : stop]
    return (
        (hosts[0], ports[0]),
        (hosts[1], ports[1]),
        payload.ljust(ports[2] - _UDP_HEADER.size, b"\0"),
    )


class _OtherPacket(Exception):
    """Not IP, or not the beginning of a UDP datagram."""


def _ip(data: bytes, at: int) -> tuple[tuple[str, str], int]:
    """((from, to), where UDP begins). Raises _OtherPacket, IndexError and struct.error."""
    version = data[at] >> 4
    if version == 4:
        first, _, _, _, fragment, _, protocol, _, *hosts = _IPV4.unpack_from(data, at)
        if protocol != _UDP or fragment & 0x1FFF:
            raise _OtherPacket
        return _hosts(hosts), at + (first & 15) * 4
    if version != 6:
        raise _OtherPacket
    _, _, protocol, _, *hosts = _IPV6.unpack_from(data, at)
    at += _IPV6.size
    for _ in range(_MOST_EXTENSIONS):
        if protocol == _FRAGMENT and not int.from_bytes(data[at + 2 : at + 4]) >> 3:
            protocol, at = data[at], at + 8
        elif protocol in _EXTENSIONS:
            protocol, at = data[at], at + 8 * (data[at + 1] + 1)
    if protocol != _UDP:
        raise _OtherPacket
    return _hosts(hosts), at


def _hosts(packed: list[bytes]) -> tuple[str, str]:
    source, target = map(_host, packed)
    return source, target


@functools.lru_cache(1024)
def _host(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _train(payload: bytes) -> Iterator[bytes]:
    """The datagrams in what a kernel sent, or took, as one: all of one length, the last perhaps
    less. Nothing tells that length; but each of them begins with the same flow id.
    """
    if not is_ours(payload):
        return
    segment = _segment(payload)
    for at in range(0, len(payload), segment):
        if is_ours(datagram := payload[at : at + segment]):
            yield datagram


def is_ours(payload: bytes) -> bool:
    return len(payload) >= START_BYTES and payload[0] >> 4 in (VERSION, PRIVATE)


def _segment(payload: bytes) -> int:
    flow, size = wire.flow_of(payload), len(payload)
    at = payload.find(flow, START_BYTES)
    while at > 0:
        segment = at - 1
        starts = range(segment, size, segment)
        if all(
            is_ours(payload[k : k + START_BYTES]) and wire.flow_of(payload[k:]) == flow
            for k in starts
        ):
            return segment
        at = payload.find(flow, at + 1)
    return size


def frame_of(source: Address, target: Address, datagram: bytes, kept: int) -> tuple[bytes, int]:
    """An IP packet with the first `kept` bytes of the datagram, and its length with all of them."""
    hosts = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (source, target)]
    length = _UDP_HEADER.size + len(datagram)
    packed = [host.packed for host in hosts]
    if hosts[0].version == 4 and hosts[1].version == 4:
        total = _IPV4.size + length
        head = _IPV4.pack(0x45, 0, total, 0, 0x4000, 64, _UDP, 0, *packed)
        head = head[:10] + _checksum(head) + head[12:]
    else:
        total = _IPV6.size + length
        head = _IPV6.pack(6 << 28, length, _UDP, 64, *packed)
    udp = _UDP_HEADER.pack(source[1], target[1], length, 0)
    return head + udp + datagram[:kept], total


def _checksum(head: bytes) -> bytes:
    """Of an IPv4 header (RFC 791)."""
    total = sum(struct.unpack(f">{len(head) // 2}H", head))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", total ^ 0xFFFF)
