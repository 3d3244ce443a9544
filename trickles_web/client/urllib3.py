"""Trickles for urllib3, which this module wants installed: `pip install 'trickles-web[requests]'`.

TricklesPoolManager().request("GET", "trickles://127.0.0.1:8000/")

Requests to trickless:// and https:// go over private flows.
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import LocationValueError, NameResolutionError, NewConnectionError

from trickles_web.client.flow_socket import create_connection
from trickles_web.client.url import (
    DEFAULT_PORT,
    PIN_IN_CONFIG,
    SCHEMES,
    followed,
    join_authority,
    names_key,
)
from trickles_web.config import PRIVATE_SCHEME, SCHEME, ClientConfig

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
    """Connections to one server, of http:// or https:// URLs."""

    ConnectionCls = _Connection


class _TricklesPool(_Pool):
    """Of trickles:// or trickless:// URLs."""

    def urlopen(self, method: str, url: str, *arguments: Any, **keywords: Any) -> Any:
        """Where the response redirects to the same server, it does by our scheme."""
        response = super().urlopen(method, url, *arguments, **keywords)
        location = response.headers.get("location")
        if location is not None:
            asked = f"{self.scheme}://{join_authority(self.host, self.port or DEFAULT_PORT)}{url}"
            response.headers["location"] = followed(location, asked)
        return response


def _made(pool: type[_Pool], scheme: str, config: ClientConfig) -> type[_Pool]:
    connection = type("_Connection", (_Connection,), {"config": config})
    return type(pool.__name__, (pool,), {"scheme": scheme, "ConnectionCls": connection})


class TricklesPoolManager(urllib3.PoolManager):
    """A PoolManager whose requests to http://, https://, and our own URLs go over Trickles.

    config: what it trusts is what servers of private flows are judged by; without, certificates
    that the system trusts. What urllib3 is told of TLS does not count.
    """

    def __init__(
        self, *arguments: Any, config: ClientConfig | None = None, **keywords: Any
    ) -> None:
        super().__init__(*arguments, **keywords)
        clear = config or ClientConfig()
        private = clear.privately()
        self.pool_classes_by_scheme = {
            "http": _made(_Pool, "http", clear),
            "https": _made(_Pool, "https", private),
            SCHEME: _made(_TricklesPool, SCHEME, clear),
            PRIVATE_SCHEME: _made(_TricklesPool, PRIVATE_SCHEME, private),
        }
        for scheme in SCHEMES:
            self.key_fn_by_scheme[scheme] = self.key_fn_by_scheme["http"]

    def urlopen(self, method: str, url: str, *arguments: Any, **keywords: Any) -> Any:
        """As urllib3's. Raises LocationValueError for a URL with a pin in it."""
        if names_key(url):
            raise LocationValueError(PIN_IN_CONFIG)
        return super().urlopen(method, url, *arguments, **keywords)

    def connection_from_host(
        self,
        host: str | None,
        port: int | None = None,
        scheme: str | None = "http",
        pool_kwargs: dict[str, Any] | None = None,
    ) -> urllib3.HTTPConnectionPool:
        """As urllib3's; our schemes have a port of their own, unless told."""
        if scheme in SCHEMES:
            port = port or DEFAULT_PORT
        return super().connection_from_host(host, port, scheme, pool_kwargs)
