"""How a proxy gets to the servers that its clients name."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import socket
from collections.abc import Set

from trickles_web.client.remote import SocketAddress, resolve
from trickles_web.client.routing import Place as Listed
from trickles_web.client.tokens import TokenStore
from trickles_web.client.transport import connect
from trickles_web.config import ClientConfig
from trickles_web.proxy.party import Party
from trickles_web.proxy.refusal import failed, unresolved
from trickles_web.proxy.stream import Stream
from trickles_web.proxy.targets import Place
from trickles_web.transport.origin import pack_origin


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """Over Trickles to some hosts or all, over TCP to the others."""

    only: Set[Listed] | None
    """Those over Trickles: (host, port), or (host, None) for all its ports. None is all hosts."""
    config: ClientConfig
    tokens: TokenStore

    def is_over_trickles(self, place: Place) -> bool:
        return (
            self.only is None
            or (place.host, place.port) in self.only
            or (place.host, None) in self.only
        )

    async def open(self, place: Place, peer: SocketAddress) -> Party:
        """A connection to the server for the client at this address. Raises Refusal.

        A flow is opened by its first bytes, so that nobody answers shows later, when it is read.
        """
        stream = Stream()
        try:
            if self.is_over_trickles(place):
                config = self._config_for(place)
                remote = await resolve(place.host, place.port, config)
                connect(remote, stream, config=config, tokens=self.tokens, origin=_origin(peer))
            else:
                async with asyncio.timeout(self.config.connect_timeout_s):
                    loop = asyncio.get_running_loop()
                    await loop.create_connection(lambda: stream, place.host, place.port)
        except socket.gaierror as error:
            raise unresolved(place.host, error) from None
        except OSError as error:
            raise failed(place, error) from None
        return Party(stream, is_client=False)

    def _config_for(self, place: Place) -> ClientConfig:
        """Replicas are asked in place of each other, and of nobody else: that would be another
        service."""
        us, replicas = (place.host, place.port), self.config.replicas
        others = tuple(one for one in replicas if one != us) if us in replicas else ()
        return dataclasses.replace(self.config, replicas=others)


def _origin(peer: SocketAddress) -> bytes:
    """Of a flow for another machine. A server elsewhere knows us better by the address that it
    sees than as its own loopback."""
    if ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback:
        return b""
    return pack_origin(peer[0], peer[1])
