"""Where a request to a proxy goes: RFC 9112 §3.2.2 (absolute-form) and §3.2.3 (authority-form)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trickles_web.client.url import join_authority
from trickles_web.proxy.refusal import Refusal, no_tls

HTTP_PORT = 80

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/?#@\[\]\\]+))(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A host, without brackets and in lower case, and a port of it."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_authority(self.host, self.port)


def tunnel_place(target: bytes) -> Place:
    """What CONNECT names; the port must be told. Raises Refusal."""
    return _place(target.decode("latin-1"), None)


def absolute(method: bytes, target: bytes) -> tuple[Place, bytes, bytes]:
    """The server, its name for the Host field, and the target in the form that a server is asked.

    Raises Refusal.
    """
    match = _ABSOLUTE.fullmatch(target.decode("latin-1"))
    if match is None:
        text = "this is a proxy: ask it for whole URLs, as programs do that have it in http_proxy"
        raise Refusal(400, "This Is a Proxy", text)
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    place = _place(authority, HTTP_PORT)
    if scheme == "https":
        raise no_tls(place)
    if scheme != "http":
        raise Refusal(400, "Bad Request", f"{scheme}:// cannot be asked for here, only http://")
    if not rest:
        rest = "*" if method == b"OPTIONS" else "/"
    elif not rest.startswith("/"):
        rest = f"/{rest}"
    return place, authority.encode("latin-1"), rest.encode("latin-1")


def _place(authority: str, default: int | None) -> Place:
    match = _AUTHORITY.fullmatch(authority)
    port = int(match[3] or default or 0) if match is not None else 0
    if match is None or not 0 < port <= 65_535:
        raise Refusal(400, "Bad Request", f"{authority!r} is not HOST:PORT")
    return Place((match[1] or match[2]).lower(), port)
