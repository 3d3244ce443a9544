"""trickles-web: an ASGI server over Trickles, the stateless TCP-like transport.

For programs, as uvicorn's: `run(app, **options)`, or `Server(Config(app, **options))`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {"Config": "net.options", "Server": "net.server", "run": "net.running"}


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: clients need no server."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
