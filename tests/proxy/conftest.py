"""The servers and loops that the clients' tests have."""

from __future__ import annotations

from tests.client.conftest import mute, no_tokens_on_disk, run, server_port

__all__ = ["mute", "no_tokens_on_disk", "run", "server_port"]
