"""Who speaks through a gateway, as its HELLO says it: an address of 4 or 16 bytes, and 2 of port.

It is a claim, and nothing in the transport depends on it: whoever uses it judges who made it.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

ORIGIN_BYTES: Final = (6, 18)


def pack_origin(host: str, port: int) -> bytes:
    """An IPv4-mapped address in its IPv4 form; of an IPv6 address without the zone.

    Raises ValueError for what is no address.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.packed + port.to_bytes(2, "big")


def unpack_origin(origin: bytes) -> tuple[str, int]:
    """Host and port of `ORIGIN_BYTES` bytes."""
    return str(ip_address(origin[:-2])), int.from_bytes(origin[-2:], "big")
