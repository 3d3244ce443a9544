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
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from trickles_web.config import HttpConfig
from trickles_web.errors import UsageError
from trickles_web.http.runner import KeptResponse
from trickles_web.net.forwarding import Forwarding
from trickles_web.state import DirectoryStore, MemoryStore
from trickles_web.state.rundir import open_directory

SWEEP_S = 10.0
"""How often the directory is looked through for what has had its time."""

logger = logging.getLogger("trickles.error")

AnyStore = MemoryStore[KeptResponse]


def check(name: str) -> str:
    """The value of --store, if it is one. Raises UsageError."""
    if name in ("auto", "memory") or (name.startswith("dir:") and len(name) > 4):
        return name
    raise UsageError(f"--store {name}: give auto, memory, or dir:PATH")


def run_directory(
    service: str, host: str, port: int, environment: Mapping[str, str] = os.environ
) -> Path:
    """The run directory of a service at its address: the same after a restart, for each worker.

    In $RUNTIME_DIRECTORY (systemd's), $XDG_RUNTIME_DIR, /dev/shm, or the directory of temporary
    files: the first that can be written to. Raises UsageError.
    """
    first = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    candidates = (first, environment.get("XDG_RUNTIME_DIR", ""), "/dev/shm", tempfile.gettempdir())
    base = next((c for c in candidates if c and os.access(c, os.W_OK | os.X_OK)), None)
    if base is None:
        raise UsageError("--store auto: no directory for files of this run; set XDG_RUNTIME_DIR")
    ours = Path(base) / f"trickles-web-{os.geteuid()}"
    open_directory(ours)
    name = f"{service}\0{host}\0{port}".encode()
    return ours / hashlib.blake2b(name, digest_size=12).hexdigest()


def open_store(name: str, config: HttpConfig, service: str, host: str, port: int) -> AnyStore:
    """The store that --store `name` asks for. Raises UsageError."""
    if name.startswith("dir:"):
        return _directory(Path(name[4:]).absolute(), config)
    if name == "auto":
        try:
            return _directory(run_directory(service, host, port), config)
        except UsageError as error:
            logger.warning("%s. Going on with --store memory", error)
    return MemoryStore(
        os.urandom(4),
        most_bytes=config.store_bytes,
        most_responses=config.store_responses,
        ttl_ms=config.response_ttl_ms,
    )


def _directory(path: Path, config: HttpConfig) -> DirectoryStore[KeptResponse]:
    try:
        return DirectoryStore(
            path,
            os.urandom(8),
            most_bytes=config.store_bytes,
            most_responses=config.store_responses,
            ttl_ms=config.response_ttl_ms,
        )
    except OSError as error:
        raise UsageError(
            f"--store dir:{path}: {error.strerror}; give a directory on a local file system"
        ) from None


def open_forwarding(store: AnyStore, loop: asyncio.AbstractEventLoop) -> Forwarding | None:
    """The way to the other processes of a shared store. Raises UsageError."""
    if not isinstance(store, DirectoryStore):
        return None
    try:
        return Forwarding(store.directory, store.owner, loop)
    except OSError as error:
        raise UsageError(
            f"--store dir:{store.directory}: no socket can be made there "
            f"({error.strerror or error}); give a shorter path on a local file system"
        ) from None


async def keep_in_order(
    store: AnyStore,
    forwarding: Forwarding | None,
    clock: Callable[[], int],
    renewed: Callable[[int], None],
) -> None:
    """Sweep a shared store until cancelled. renewed(id): its contents were lost, and begin anew."""
    while isinstance(store, DirectoryStore) and forwarding is not None:
        await asyncio.to_thread(store.sweep, clock())
        if store.lost:
            try:
                store.renew(os.urandom(4))
                forwarding.reopen()
            except (UsageError, OSError) as error:
                logger.debug("The store cannot be made again: %s", error)
            else:
                logger.warning("The store in %s was gone; it was made again", store.directory)
                renewed(store.id)
        await asyncio.sleep(SWEEP_S)
