"""The gateway that a supervisor runs beside its workers: how it is told what to do."""

from __future__ import annotations

import sys

from trickles_web.config import PRIVATE_SCHEME
from trickles_web.net.options import Config
from trickles_web.net.sockets import endpoint_name

_WHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""Of an address that stands for all, one that can be asked."""


def gateway_command(config: Config, pin: str, descriptor: int) -> list[str]:
    """Its command line. pin: of the server's key. descriptor: of the supervisor's channel."""
    options = [f"--listen={config.gateway}", f"--loop={config.loop}", f"--child={descriptor}"]
    options.append(f"--log-level={config.log_level or 'info'}")
    scheme = config.scheme(config.host)
    if scheme == PRIVATE_SCHEME:
        options.append(f"--pin={pin}")
    url = f"{scheme}://{endpoint_name(_WHERE.get(config.host, config.host), config.port)}"
    return [sys.executable, "-m", "trickles_web.cli.gateway", *options, url]
