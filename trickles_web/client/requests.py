"""Trickles for requests, which this module wants installed: `pip install 'trickles-web[requests]'`.

    session = requests.Session()
    session.mount("trickles://", TricklesAdapter())
    session.get("trickles://127.0.0.1:8000/")

requests leaves URLs of schemes that it does not know as they are: it adds no `params=` to them, and
quotes nothing. Mounted at "http://127.0.0.1:8000", the adapter serves URLs that it does know.
Mounted at "trickless://", or at "https://127.0.0.1:8000", it asks by private flows.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import urllib3
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL

from trickles_web.client.url import PIN_IN_CONFIG, names_key
from trickles_web.client.urllib3 import TricklesPoolManager
from trickles_web.config import ClientConfig

__all__ = ["TricklesAdapter"]


class TricklesAdapter(HTTPAdapter):
    """To be mounted at "trickles://", "trickless://", "http://HOST:PORT" or "https://HOST:PORT".

    `config` says whom it trusts, `verify` and `cert` do not count. Proxies are ignored.
    """

    __attrs__ = (*HTTPAdapter.__attrs__, "_config")

    def __init__(
        self, *arguments: Any, config: ClientConfig | None = None, **keywords: Any
    ) -> None:
        self._config = config
        super().__init__(*arguments, **keywords)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **keywords: Any
    ) -> None:
        self.poolmanager = TricklesPoolManager(
            num_pools=connections, maxsize=maxsize, block=block, config=self._config, **keywords
        )

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> urllib3.HTTPConnectionPool:
        if names_key(str(request.url)):
            raise InvalidURL(PIN_IN_CONFIG, request=request)
        url = urlsplit(str(request.url))
        pool: urllib3.HTTPConnectionPool = self.poolmanager.connection_from_host(
            url.hostname, url.port, url.scheme
        )
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Not by requests."""

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        return request.path_url
