"""X-Forwarded-Proto and X-Forwarded-For, believed where a trusted proxy sends them, as by uvicorn.

Each proxy appends the address that it was called from, so the list is read from its end: the first
address that is no trusted proxy's is the client's. What stands before it, anybody can have written.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from trickles_web.errors import UsageError

_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+(/.*)?|\[?[0-9a-fA-F.]*:[0-9a-fA-F:.]*\]?(/.*)?")
_SCHEMES = frozenset(("http", "https", "ws", "wss"))

MOST_KEPT = 4096
"""Verdicts on addresses that are remembered: reading one takes 2 us."""

LONGEST_KEPT = 253
"""Characters of a DNS name: anything longer is a waste of memory."""


class Trusted:
    """Addresses, networks and literal names of proxies, separated by commas; or `*` for all."""

    def __init__(self, hosts: str) -> None:
        self.all = hosts == "*"
        self._addresses: set[IPv4Address | IPv6Address] = set()
        self._networks: set[IPv4Network | IPv6Network] = set()
        self._literals: set[str] = set()
        for host in () if self.all else (host.strip() for host in hosts.split(",")):
            try:
                if "/" in host:
                    self._networks.add(ip_network(host))
                else:
                    self._addresses.add(ip_address(host))
            except ValueError:
                self._literals.add(host)
        self._known = lru_cache(maxsize=MOST_KEPT)(self._judge)

    def __contains__(self, host: str) -> bool:
        if self.all or not host:
            return self.all
        return self._judge(host) if len(host) > LONGEST_KEPT else self._known(host)

    def _judge(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return host in self._literals
        return address in self._addresses or any(address in n for n in self._networks)

    def client(self, forwarded: str) -> tuple[str, int]:
        """Host and port (0 if not given) of the client that an X-Forwarded-For list names."""
        if self.all:
            return _host_and_port(forwarded.partition(",")[0].strip())
        stop = len(forwarded)
        while True:  # ends early as a rule, so that nothing is done for what is not believed
            start = forwarded.rfind(",", 0, stop)
            host, port = _host_and_port(forwarded[start + 1 : stop].strip())
            if start < 0 or host not in self:
                return host, port
            stop = start


def check(option: str, hosts: str) -> None:
    """Raises UsageError for what was meant to be an address or a network, and is none.

    It would count as a name, which nobody has.
    """
    for host in (host.strip() for host in hosts.split(",")):
        kind, parse = ("network", ip_network) if "/" in host else ("address", ip_address)
        if _LIKE_AN_ADDRESS.fullmatch(host):
            try:
                parse(host)
            except ValueError:
                raise UsageError(
                    f"{option}: {host!r} is no {kind}; give addresses, networks (such as "
                    "10.0.0.0/8) or names, with commas between"
                ) from None


@lru_cache(maxsize=16)
def trusted(hosts: str) -> Trusted:
    return Trusted(hosts)


def apply(scope: MutableMapping[str, Any], proxies: Trusted) -> None:
    """Put scheme and client in their place, if `scope["client"]` is a trusted proxy."""
    client = scope["client"]
    if (client[0] if client else "") not in proxies:
        return
    scheme: bytes | None = None
    forwarded: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-proto":
            scheme = value
        elif name == b"x-forwarded-for":
            forwarded.append(value)
    if scheme is not None:
        name = scheme.decode("latin-1").strip()
        if name in _SCHEMES:
            is_websocket = scope["type"] == "websocket"
            scope["scheme"] = name.replace("http", "ws") if is_websocket else name
    if forwarded:
        host, port = proxies.client(b", ".join(forwarded).decode("latin-1"))
        if host:
            scope["client"] = (host, port)


def _host_and_port(item: str) -> tuple[str, int]:
    """An address, `IPv4:port` or `[IPv6]:port`; anything else is a host as it stands."""
    if item.startswith("["):
        host, bracket, port = item[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return item, 0
        return host, _number(port[1:]) or 0
    if item.count(":") == 1:
        host, _, port = item.partition(":")
        number = _number(port)
        return (item, 0) if number is None else (host, number)
    return item, 0


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
