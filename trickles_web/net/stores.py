"""Which store a server uses, and what keeps it in order while the server runs.

--store auto       the run directory of this service and port; memory where there can be none
        memory     this process's memory: nothing outlives it
        dir:PATH   a directory, on tmpfs if possible, that all workers of the machine share
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trickles_web.config import HttpConfig
from trickles_web.errors import UsageError
from trickles_web.http.runner import KeptResponse
from trickles_web.net.forwarding import Forwarding, Relay
from trickles_web.net.peering import Peering
from trickles_web.net.sockets import bind_udp, parse_listen
from trickles_web.state import DirectoryStore, Limits, MemoryStore
from trickles_web.state.rundir import open_directory, remove_abandoned

if TYPE_CHECKING:
    from trickles_web.state.redis import RedisStore

REDIS = ("redis://", "rediss://", "unix://")
MANY_DESCRIPTORS = 1 << 20
"""Where the number of open files is not limited."""
SWEEP_S = 10.0
"""How often the directory is looked through for what has had its time."""

logger = logging.getLogger("trickles.error")

AnyStore = MemoryStore[KeptResponse]


def check(name: str) -> str:
    """The value of --store, if it is one. Raises UsageError."""
    if name in ("auto", "memory") or (name.startswith("dir:") and len(name) > 4):
        return name
    if name.startswith(REDIS):
        try:
            from redis.connection import parse_url
        except ImportError:
            raise UsageError("--store redis://: pip install 'trickles-web[redis]'") from None
        try:
            parse_url(name)  # type: ignore[no-untyped-call]
        except ValueError as error:
            # Without what stands before the host: that may be a password.
            shown = f"{name.partition('://')[0]}://{name.rpartition('@')[2].rpartition('//')[2]}"
            raise UsageError(f"--store {shown}: {error}") from None
        return name
    raise UsageError(f"--store {name}: give auto, memory, dir:PATH, or redis://HOST:PORT/DATABASE")


def run_directory(
    service: str,
    host: str,
    port: int,
    environment: Mapping[str, str] = os.environ,
    *,
    tmpfs: bool = True,
) -> Path:
    """The run directory of a service at its address: the same after a restart, for each worker.

    In $RUNTIME_DIRECTORY (systemd's), $XDG_RUNTIME_DIR, /dev/shm, or the directory of temporary
    files: the first that can be written to. Not `tmpfs`: only the last. Raises UsageError.
    """
    first = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    in_memory = (first, environment.get("XDG_RUNTIME_DIR", ""), "/dev/shm")
    candidates = (*(in_memory if tmpfs else ()), tempfile.gettempdir())
    base = next((c for c in candidates if c and os.access(c, os.W_OK | os.X_OK)), None)
    if base is None:
        raise UsageError("--store auto: no directory for files of this run; set XDG_RUNTIME_DIR")
    ours = Path(base) / f"trickles-web-{os.geteuid()}"
    open_directory(ours)
    remove_abandoned(ours, time.time_ns() // 1_000_000)
    name = f"{service}\0{host}\0{port}".encode()
    return ours / hashlib.blake2b(name, digest_size=12).hexdigest()


class Opened:
    """A store in use: what `start` began, `close` ends."""

    relay: Relay | None = None

    def __init__(self, store: AnyStore) -> None:
        self.store = store

    async def start(self, found: Callable[[int], None], renewed: Callable[[int], None]) -> None:
        """found(incarnation): an answer that was waited for is here.

        renewed(id): the contents were lost, or are known by another name from now on.
        """

    async def close(self) -> None:
        """Leave: what this process ran has ended."""


class _OpenedDirectory(Opened):
    """Beside it a task that removes what has had its time."""

    def __init__(self, store: DirectoryStore[KeptResponse], clock: Callable[[], int]) -> None:
        super().__init__(store)
        self._store, self._clock = store, clock
        loop = asyncio.get_running_loop()
        try:
            self.relay = self._forwarding = Forwarding(store.directory, store.owner, loop)
        except OSError as error:
            store.close()
            raise UsageError(
                f"--store dir:{store.directory}: no socket can be made there "
                f"({error.strerror or error}); give a directory on a local file system"
            ) from None

    async def start(self, found: Callable[[int], None], renewed: Callable[[int], None]) -> None:
        self._upkeep = asyncio.get_running_loop().create_task(self._keep_in_order(renewed))

    async def close(self) -> None:
        self._upkeep.cancel()
        self._forwarding.close()
        self._store.close()

    async def _keep_in_order(self, renewed: Callable[[int], None]) -> None:
        store = self._store
        while True:
            await asyncio.to_thread(store.sweep, self._clock())
            if store.lost:
                try:
                    store.renew(os.urandom(4))
                    self._forwarding.reopen()
                except (UsageError, OSError) as error:
                    logger.debug("The store cannot be made again: %s", error)
                else:
                    logger.warning("The store in %s was gone; it was made again", store.directory)
                    renewed(store.id)
            await asyncio.sleep(SWEEP_S)


class _OpenedRedis(Opened):
    """Beside it a socket, by which the replicas of other machines reach this one."""

    def __init__(
        self,
        store: RedisStore[KeptResponse],
        url: str,
        peer: str | None,
        secrets: Sequence[bytes],
        name: str,
        clock: Callable[[], int],
    ) -> None:
        """name: of the service. Raises UsageError."""
        super().__init__(store)
        self._store = store
        host, port = parse_listen("--peer", peer) if peer else (_own_address(url), 0)
        sock = bind_udp(host, port, host_option="--peer", port_option="--peer")
        store.peer = "{} {}".format(*sock.getsockname()[:2])
        loop = asyncio.get_running_loop()
        self.relay = self._peering = Peering(sock, secrets, name, store.peers.address, loop, clock)

    async def start(self, found: Callable[[int], None], renewed: Callable[[int], None]) -> None:
        self._store.found, self._store.renewed = found, renewed
        await self._store.start()

    async def close(self) -> None:
        self._peering.close()
        await self._store.close()


def _descriptors() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def _own_address(url: str) -> str:
    """The address of this machine that packets to the Redis of this URL leave from."""
    parts = urlsplit(url)
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            parts.hostname or "127.0.0.1", parts.port or 6379, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as sock:
            sock.connect(address)
            host: str = sock.getsockname()[0]
            return host
    except OSError as error:
        advice = "give --peer HOST:PORT, where other replicas reach this one"
        if isinstance(error, socket.gaierror):
            advice = "check the host name"
        raise UsageError(
            f"--store {parts.scheme}://{parts.hostname}: {error.strerror}; {advice}"
        ) from None


def open_store(
    name: str,
    config: HttpConfig,
    service: str,
    address: tuple[str, int],
    *,
    secrets: Sequence[bytes],
    peer: str | None,
    clock: Callable[[], int],
    tmpfs: bool = True,
) -> Opened:
    """What --store `name` asks for; to be started. In the loop. Raises UsageError.

    peer: HOST:PORT for other machines, where --store is a Redis server.
    """
    limits = Limits(
        most_bytes=config.store_bytes,
        most_responses=config.store_responses,
        ttl_ms=config.response_ttl_ms,
        disk_bytes=config.spool_disk_bytes,
        lent_bytes=config.spool_memory_bytes,
        disk_files=_descriptors() // 2,
    )
    if name.startswith(REDIS):
        from trickles_web.state.redis import RedisStore  # an extra

        shared = RedisStore[KeptResponse](name, service, os.urandom(8), limits, clock=clock)
        return _OpenedRedis(shared, name, peer, secrets, service, clock)
    try:
        if name.startswith("dir:"):
            return _open_directory(Path(name[4:]).absolute(), limits, clock)
        if name == "auto":
            directory = run_directory(service, *address, tmpfs=tmpfs)
            return _open_directory(directory, limits, clock)
    except UsageError as error:
        if name != "auto":
            raise
        logger.warning("%s. Going on with --store memory", error)
    return Opened(MemoryStore(os.urandom(4), limits))


def _open_directory(path: Path, limits: Limits, clock: Callable[[], int]) -> Opened:
    try:
        return _OpenedDirectory(DirectoryStore(path, os.urandom(8), limits), clock)
    except OSError as error:
        raise UsageError(
            f"--store dir:{path}: {error.strerror}; give a directory on a local file system"
        ) from None
