"""Trickles for httpx2, which this module wants installed: `pip install 'trickles-web[httpx2]'`.

    client = httpx2.Client(mounts={"trickles://": TricklesTransport()})
    client.get("trickles://127.0.0.1:8000/")

Mounted at "trickless://", it asks by private flows. Or mounted at "http://127.0.0.1:8000", or at
"https://127.0.0.1:8000", which is private too, for URLs as they are.
"""

from __future__ import annotations

from typing import Any, ClassVar

import httpcore2
import httpx2

from trickles_web.client.pooled import AsyncBody, AsyncPooled, Body, Pooled

__all__ = ["AsyncTricklesTransport", "TricklesTransport"]


class _Body(Body, httpx2.SyncByteStream):
    pass


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    pass


class TricklesTransport(Pooled, httpx2.BaseTransport):
    """For httpx2.Client: requests to URLs of these go over Trickles."""

    library: ClassVar[Any] = httpx2
    core: ClassVar[Any] = httpcore2
    body = _Body


class AsyncTricklesTransport(AsyncPooled, httpx2.AsyncBaseTransport):
    """For httpx2.AsyncClient, in asyncio; otherwise as the other one."""

    library: ClassVar[Any] = httpx2
    core: ClassVar[Any] = httpcore2
    body = _AsyncBody
