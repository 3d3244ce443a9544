"""Trickles for urllib3, which this module wants installed: `pip install 'trickles-web[requests]'`.

TricklesPoolManager().request("GET", "trickles://127.0.0.1:8000/")
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError

from trickles_web.client.flow_socket import create_connection
from trickles_web.client.url import DEFAULT_PORT, SCHEME, followed, join_authority
from trickles_web.config import ClientConfig

__all__ = ["TricklesPoolManager"]


class _Connection(HTTPConnection):
    """A connection of a pool, whose socket is a flow's."""

    config: ClassVar[ClientConfig | None] = None

    def _new_conn(self) -> socket.socket:
        """urllib3's documented place for this. No datagram is sent yet."""
        try:
            address, source = (self.host, self.port), self.source_address
            return create_connection(address, self.timeout, source, config=self.config)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except OSError as error:
            raise NewConnectionError(self, f"cannot open a flow: {error}") from error


class _Pool(urllib3.HTTPConnectionPool):
    """Connections to one server, of http:// URLs."""

    ConnectionCls = _Connection


class _TricklesPool(_Pool):
    """Of trickles:// URLs."""

    def urlopen(self, method: str, url: str, *arguments: Any, **keywords: Any) -> Any:
        """Where the response redirects to the same server, it does by trickles://."""
        response = super().urlopen(method, url, *arguments, **keywords)
        location = response.headers.get("location")
        if location is not None:
            asked = f"{SCHEME}://{join_authority(self.host, self.port or DEFAULT_PORT)}{url}"
            response.headers["location"] = followed(location, asked)
        return response


class TricklesPoolManager(urllib3.PoolManager):
    """A PoolManager whose requests to trickles:// and http:// URLs go over Trickles."""

    def __init__(
        self, *arguments: Any, config: ClientConfig | None = None, **keywords: Any
    ) -> None:
        super().__init__(*arguments, **keywords)
        told = {"ConnectionCls": type("_Connection", (_Connection,), {"config": config})}
        self.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), told)
            for scheme, pool in (("http", _Pool), (SCHEME, _TricklesPool))
        }
        self.key_fn_by_scheme[SCHEME] = self.key_fn_by_scheme["http"]

    def connection_from_host(
        self,
        host: str | None,
        port: int | None = None,
        scheme: str | None = "http",
        pool_kwargs: dict[str, Any] | None = None,
    ) -> urllib3.HTTPConnectionPool:
        """As urllib3's; trickles:// has a port of its own, unless told."""
        if scheme == SCHEME:
            port = port or DEFAULT_PORT
        return super().connection_from_host(host, port, scheme, pool_kwargs)
