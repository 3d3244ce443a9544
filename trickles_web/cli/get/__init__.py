"""trickles-get: fetch URLs over Trickles, with curl's options, messages and exit codes.

command -> options -> run -> transfer -> requests, flows, output
"""

from __future__ import annotations

from trickles_web.cli.get.command import main

__all__ = ["main"]
