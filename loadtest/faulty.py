"""A server whose clock goes wrong, whose replay filter is small and whose keys change often.

    python -m loadtest.faulty APPLICATION PORT STORE CLOCK_FILE [OPTION=VALUE...]

CLOCK_FILE: text, the ms to add to the wall clock; what is written there counts at once. Options are
fields of TransportConfig. Uploads of over 1 MiB go to disk. The last line says for how many seconds
it ran.
"""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trickles_web.config import HttpConfig, TransportConfig
from trickles_web.errors import UsageError
from trickles_web.net.endpoint import wall_clock_ms
from trickles_web.net.options import Config
from trickles_web.net.server import Server

OFFSET_BYTES = 16


class Faulty(Config):
    """No memory is lent to request bodies, so that a full disk matters."""

    def http_config(self) -> HttpConfig:
        return replace(super().http_config(), spool_memory_bytes=0)


def write_offset(file: Path, milliseconds: int) -> None:
    """What a clock of this file is ahead by, from now on."""
    text = f"{milliseconds:+}".encode().ljust(OFFSET_BYTES)
    with file.open("r+b" if file.exists() else "wb") as output:
        output.write(text)


def clock_of(file: Path) -> Callable[[], int]:
    with file.open("rb") as opened:
        text = mmap.mmap(opened.fileno(), OFFSET_BYTES, prot=mmap.PROT_READ)
    return lambda: wall_clock_ms() + int(text[:])


def main(app: str, port: str, store: str, clock_file: str, *more: str) -> int:
    options: dict[str, Any] = {
        name: int(value) for name, value in (word.split("=") for word in more)
    }
    config = Faulty(
        app=app, port=int(port), store=store, access_log=False, log_level="debug", use_colors=False
    )
    config.configure_logging()
    clock, transport = clock_of(Path(clock_file)), TransportConfig(**options)
    began = time.monotonic()
    try:
        code = Server(config, clock=clock, transport=transport).run()
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"ran for {time.monotonic() - began:.1f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
