"""Address tokens: the newest continuation of an earlier flow, kept per server.

A client that shows one in its first datagram has already proved its address, so its first request
is answered at once: one round trip instead of two. Losing a token costs that round trip and nothing
else, so every failure here is silent: an unreadable, corrupt, foreign or old file is no file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TOKEN_LIFETIME_S = 86_400.0
"""Servers take a continuation as an address token for 24 h (TransportConfig.token_horizon_ms)."""
WRITE_INTERVAL_S = 60.0
"""A gateway opens thousands of flows; the disk hears of a server once a minute at most."""
MAX_SERVERS = 256
"""Files, and entries in memory; the oldest make room."""
MAX_TOKEN_BYTES = 4_096
"""A continuation fits a datagram of 1,200 bytes several times over; more is not ours."""


@dataclass(frozen=True, slots=True)
class _Entry:
    token: bytes
    saved: float
    """Unix seconds when the flow handed it over."""


def default_directory() -> Path | None:
    """$XDG_CACHE_HOME (or ~/.cache) / trickles-web / tokens; None if TRICKLES_TOKENS=off."""
    if os.environ.get("TRICKLES_TOKENS", "").strip().lower() in {"off", "0", "no", "false"}:
        return None
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules: a relative path there is to be ignored.
    if os.path.isabs(cache):
        return Path(cache) / "trickles-web" / "tokens"
    try:
        return Path.home() / ".cache" / "trickles-web" / "tokens"
    except RuntimeError:
        return None


class TokenStore:
    """Tokens of servers named (host, port), in memory and, given a directory, on disk: or what else
    is small, and asked for again where it is lost.

    One store serves any number of flows; the newest token wins. No method raises.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        most_bytes: int = MAX_TOKEN_BYTES,
        lifetime_s: float = TOKEN_LIFETIME_S,
    ) -> None:
        """`most_bytes`: what is longer is not kept. `lifetime_s`: nor for longer."""
        self._most_bytes = most_bytes
        self._lifetime_s = lifetime_s
        self._directory = directory
        self._clock = clock
        self._newest: dict[tuple[str, int], _Entry] = {}
        self._written: dict[tuple[str, int], float] = {}

    def get(self, host: str, port: int) -> bytes:
        """The newest token for this server; b"" if there is none younger than 24 h."""
        key = _key(host, port)
        entry = self._newest.get(key)
        if entry is None:
            entry = self._read(key)
            if entry is not None:
                self._keep(key, entry)
        return entry.token if entry is not None and self._young(entry) else b""

    def remember(self, host: str, port: int, token: bytes) -> None:
        """Keep it in memory: flows that start from now on show it."""
        if token and len(token) <= self._most_bytes:
            self._keep(_key(host, port), _Entry(token, self._clock()))

    def save(self, host: str, port: int, token: bytes) -> None:
        """Keep it in memory, and on disk unless that was done within the last minute."""
        self.remember(host, port, token)
        key = _key(host, port)
        entry = self._newest.get(key)
        last = self._written.get(key)
        if self._directory is None or entry is None or not token:
            return
        if last is None or not 0 <= entry.saved - last < WRITE_INTERVAL_S:
            self._written[key] = entry.saved
            self._write(self._directory, key, entry)

    def _young(self, entry: _Entry) -> bool:
        # A saved time in the future is a clock that was set back: nothing to rely on.
        return 0 <= self._clock() - entry.saved < self._lifetime_s

    def _keep(self, key: tuple[str, int], entry: _Entry) -> None:
        self._newest.pop(key, None)
        self._newest[key] = entry
        while len(self._newest) > MAX_SERVERS:
            oldest = next(iter(self._newest))
            del self._newest[oldest]
            self._written.pop(oldest, None)

    def _read(self, key: tuple[str, int]) -> _Entry | None:
        if self._directory is None:
            return None
        try:
            with (self._directory / _name(key)).open("rb") as file:
                held = json.loads(file.read(2 * self._most_bytes))
            if (held["host"], held["port"]) != key:
                return None
            token = base64.b64decode(held["token"], validate=True)
            entry = _Entry(token, float(held["saved"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not token or len(token) > self._most_bytes or not self._young(entry):
            return None
        return entry

    def _write(self, directory: Path, key: tuple[str, int], entry: _Entry) -> None:
        """Write beside and rename over: a reader sees the old file or the new one, never half."""
        text = json.dumps(
            {
                "host": key[0],
                "port": key[1],
                "saved": entry.saved,
                "token": base64.b64encode(entry.token).decode("ascii"),
            }
        )
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")  # 0600 by contract
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(text)
                os.replace(temporary, directory / _name(key))
            except OSError:
                os.unlink(temporary)
                raise
            _make_room(directory)


def _make_room(directory: Path) -> None:
    """Remove the oldest files beyond the bound, half-written leftovers included."""
    aged = sorted((entry.stat().st_mtime, entry.path) for entry in os.scandir(directory))
    for _, path in aged[: max(0, len(aged) - MAX_SERVERS)]:
        os.unlink(path)


def _key(host: str, port: int) -> tuple[str, int]:
    return host.lower(), port


def _name(key: tuple[str, int]) -> str:
    """A file name without the host in it: hosts may hold anything, and names are read by others."""
    return hashlib.sha256(f"{key[0]}\0{key[1]}".encode(errors="replace")).hexdigest()[:32]
