"""A proxy for programs that know how to use one: each request goes over Trickles, to the UDP port
of the host that it names (RFC 9110 §7.6, RFC 9112 §3.2.2).

Where the gateway carries bytes to one server, this reads HTTP, as it has to know whom to ask.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from trickles_web.client.relay import Warnings
from trickles_web.client.remote import SocketAddress
from trickles_web.client.routing import Place
from trickles_web.client.streams import default_tokens
from trickles_web.client.tokens import TokenStore
from trickles_web.config import ClientConfig
from trickles_web.listening import MAX_CONNECTIONS, Entrance
from trickles_web.proxy.connection import Connection
from trickles_web.proxy.party import Party
from trickles_web.proxy.reaching import Ways
from trickles_web.proxy.stream import Stream

logger = logging.getLogger("trickles.proxy")

CLOSE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Who may use a proxy, and for what."""

    credential: bytes
    """`user:password`. There is no proxy without: on the loopback, too, others may knock."""
    only: Sequence[Place] | None = None
    """What is asked over Trickles, and all else over TCP; None: everything is."""
    max_connections: int = MAX_CONNECTIONS
    """Then accepting pauses, and newcomers wait in the kernel's queue."""
    client: ClientConfig = field(default_factory=ClientConfig)


class Proxy:
    """Serves from `start` to `close`, within one running loop."""

    def __init__(self, config: ProxyConfig, *, tokens: TokenStore | None = None) -> None:
        self.config = config
        only = None if config.only is None else frozenset(config.only)
        self._ways = Ways(only, config.client, tokens or default_tokens())
        self._tasks: set[asyncio.Task[None]] = set()
        self._entrance: Entrance
        self._warnings: Warnings

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket."""
        return self._entrance.addresses

    @property
    def connections(self) -> int:
        """TCP connections of clients that are now open."""
        return len(self._tasks)

    def start(self, listeners: list[socket.socket]) -> None:
        """Serve who connects to these sockets, which are the proxy's from now on."""
        self._warnings = Warnings(logger, asyncio.get_running_loop().time)
        self._entrance = Entrance(
            listeners,
            self._take,
            taken=lambda: self.connections,
            most=self.config.max_connections,
            warnings=self._warnings,
        )
        self._entrance.open()

    async def close(self) -> None:
        """Stop at once; open responses are reset, and servers told that nobody waits."""
        self._entrance.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_S)

    def _take(self, sock: socket.socket, peer: SocketAddress) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(sock, peer))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._entrance.left()

    async def _serve(self, sock: socket.socket, peer: SocketAddress) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        stream = Stream(functools.partial(loop.call_soon, task.cancel))
        try:
            await loop.connect_accepted_socket(lambda: stream, sock)
        except OSError:  # gone before it was here
            sock.close()
            return
        stream.prepare()
        client = Party(stream, is_client=True)
        connection = Connection(
            client, peer, self._ways, self.config.credential, self._warnings.warn
        )
        await connection.run()
