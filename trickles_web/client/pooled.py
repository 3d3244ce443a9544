"""Transports of httpx and of httpx2 over Trickles, but for the names of the library's classes.

The libraries' public surfaces are alike, so there is one implementation; `library` and `core` are
httpx and httpcore, or httpx2 and httpcore2. Pools, limits and HTTP itself are those of `core`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

from trickles_web.client.backends import AsyncBackend, Backend
from trickles_web.client.tokens import TokenStore
from trickles_web.client.url import DEFAULT_PORT, PIN_IN_CONFIG, SCHEMES, followed
from trickles_web.config import PRIVATE_SCHEME, ClientConfig

MAX_CONNECTIONS = 100
MAX_IDLE_CONNECTIONS = 20
"""As in the libraries' own transports."""

_ERRORS = (
    "TimeoutException",
    "ConnectTimeout",
    "ReadTimeout",
    "WriteTimeout",
    "PoolTimeout",
    "NetworkError",
    "ConnectError",
    "ReadError",
    "WriteError",
    "UnsupportedProtocol",
    "ProtocolError",
    "LocalProtocolError",
    "RemoteProtocolError",
)
"""Names that both `core` and `library` have."""
_PRIVATE = (PRIVATE_SCHEME, "https")
_PORTS = {"http": 80, "https": 443} | dict.fromkeys(SCHEMES, DEFAULT_PORT)


class _Pooled:
    library: ClassVar[Any]
    core: ClassVar[Any]

    def __init__(
        self,
        *,
        limits: Any = None,
        local_address: str | None = None,
        config: ClientConfig | None = None,
        tokens: TokenStore | None = None,
    ) -> None:
        """`limits`: the library's Limits, of this transport's pool; a client's own are not told.

        `local_address`: the address that datagrams are sent from. `config`: what it trusts is
        what servers of trickless:// and https:// are judged by; without, certificates that the
        system trusts. They have a pool of their own, with the same limits.
        """
        limits = limits or self.library.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE_CONNECTIONS
        )
        config = config or ClientConfig()
        self._pools = [
            self._make_pool(
                each,
                tokens,
                max_connections=limits.max_connections,
                max_keepalive_connections=limits.max_keepalive_connections,
                keepalive_expiry=limits.keepalive_expiry,
                local_address=local_address,
            )
            for each in (config, config.privately())
        ]

    def _make_pool(self, config: ClientConfig, tokens: TokenStore | None, **limits: Any) -> Any:
        raise NotImplementedError

    def _pool(self, request: Any) -> Any:
        """That of clear or of private flows."""
        return self._pools[request.url.scheme in _PRIVATE]

    def _request(self, request: Any) -> Any:
        """As `core` wants it. Raises UnsupportedProtocol."""
        url = request.url
        if url.scheme not in _PORTS:
            ours = ", ".join(f"{scheme}://" for scheme in _PORTS)
            raise self.library.UnsupportedProtocol(
                f"{url.scheme}:// does not go over Trickles, only {ours}", request=request
            )
        if url.username == "sha256":
            raise self.library.UnsupportedProtocol(PIN_IN_CONFIG, request=request)
        port = url.port or _PORTS[url.scheme]
        return self.core.Request(
            method=request.method,
            url=self.core.URL(scheme=b"http", host=url.raw_host, port=port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )

    def _response(self, request: Any, response: Any, stream: Any) -> Any:
        """As `library` wants it; where it redirects to the same server, by our scheme as well."""
        headers = response.headers
        if request.url.scheme in SCHEMES:
            headers = [
                (name, _followed(value, str(request.url)) if name.lower() == b"location" else value)
                for name, value in headers
            ]
        return self.library.Response(
            status_code=response.status,
            headers=headers,
            stream=stream,
            extensions=response.extensions,
        )


def _followed(location: bytes, url: str) -> bytes:
    return followed(location.decode("latin-1"), url).encode("latin-1")


@contextlib.contextmanager
def _errors(library: Any, core: Any) -> Iterator[None]:
    """Raise `library`'s errors for those of `core`, the most specific there is."""
    try:
        yield
    except Exception as error:
        for name in (kind.__name__ for kind in type(error).__mro__):
            if name in _ERRORS and isinstance(error, getattr(core, name)):
                raise getattr(library, name)(str(error)) from error
        raise


class Pooled(_Pooled):
    """A synchronous transport."""

    body: type[Body]

    def _make_pool(self, config: ClientConfig, tokens: TokenStore | None, **limits: Any) -> Any:
        backend = Backend(self.core, config, tokens)
        return self.core.ConnectionPool(network_backend=backend, **limits)

    def handle_request(self, request: Any) -> Any:
        """Send it, and return the response, whose body is still to come."""
        asked = self._request(request)
        with _errors(self.library, self.core):
            response = self._pool(request).handle_request(asked)
        body = self.body(response.stream, self.library, self.core)
        return self._response(request, response, body)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            pool.close()


class Body:
    """Of a response, as it comes."""

    def __init__(self, stream: Any, library: Any, core: Any) -> None:
        self._stream = stream
        self._library = library
        self._core = core

    def __iter__(self) -> Iterator[bytes]:
        with _errors(self._library, self._core):
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


class AsyncPooled(_Pooled):
    """An asynchronous transport, for asyncio."""

    body: type[AsyncBody]

    def _make_pool(self, config: ClientConfig, tokens: TokenStore | None, **limits: Any) -> Any:
        backend = AsyncBackend(self.core, config, tokens)
        return self.core.AsyncConnectionPool(network_backend=backend, **limits)

    async def handle_async_request(self, request: Any) -> Any:
        """Send it, and return the response, whose body is still to come."""
        asked = self._request(request)
        with _errors(self.library, self.core):
            response = await self._pool(request).handle_async_request(asked)
        body = self.body(response.stream, self.library, self.core)
        return self._response(request, response, body)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()


class AsyncBody:
    """Of a response, as it comes."""

    def __init__(self, stream: Any, library: Any, core: Any) -> None:
        self._stream = stream
        self._library = library
        self._core = core

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors(self._library, self._core):
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
