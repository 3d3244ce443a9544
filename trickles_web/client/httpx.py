"""Trickles for httpx, which this module wants installed: `pip install 'trickles-web[httpx]'`.

    client = httpx.Client(mounts={"trickles://": TricklesTransport()})
    client.get("trickles://127.0.0.1:8000/")

Mounted at "trickless://", it asks by private flows. Or mounted at "http://127.0.0.1:8000", or at
"https://127.0.0.1:8000", which is private too, for URLs as they are.
"""

from __future__ import annotations

from typing import Any, ClassVar

import httpcore
import httpx

from trickles_web.client.pooled import AsyncBody, AsyncPooled, Body, Pooled

__all__ = ["AsyncTricklesTransport", "TricklesTransport"]


class _Body(Body, httpx.SyncByteStream):
    pass


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    pass


class TricklesTransport(Pooled, httpx.BaseTransport):
    """For httpx.Client: requests to URLs of these go over Trickles."""

    library: ClassVar[Any] = httpx
    core: ClassVar[Any] = httpcore
    body = _Body


class AsyncTricklesTransport(AsyncPooled, httpx.AsyncBaseTransport):
    """For httpx.AsyncClient, in asyncio; otherwise as the other one."""

    library: ClassVar[Any] = httpx
    core: ClassVar[Any] = httpcore
    body = _AsyncBody
