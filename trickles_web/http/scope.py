"""What passes between server and application by ASGI 3, and the scope of an HTTP request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trickles_web.http.proxy_headers import apply, trusted
from trickles_web.state.prefixes import Prefix, prefix_of
from trickles_web.transport.origin import unpack_origin

if TYPE_CHECKING:
    from trickles_web.config import HttpConfig
    from trickles_web.http.request import Request
    from trickles_web.transport.redeemed import Redeemed

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[object]]


def client_of(sender: tuple[str, int], origin: bytes, config: HttpConfig) -> tuple[str, int]:
    """Who asks: the one for whom a gateway speaks, if the gateway is trusted; else the sender."""
    if origin and sender[0] in trusted(config.forwarded_allow_ips):
        return unpack_origin(origin)
    return sender


def build_scope(
    request: Request,
    client: tuple[str, int],
    server: tuple[str, int] | None,
    config: HttpConfig,
    state: dict[str, Any],
    checkpoint: bytes | None,
    *,
    private: bool = False,
) -> Scope:
    """The scope that uvicorn would build, and the extensions pathsend and checkpoint.

    client: who asks, see `client_of`. checkpoint: the state from which the application is to go
    on, None for a first call. private: it came in a private flow.
    """
    root_path = config.root_path
    raw_path, _, query = request.target.partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "server": server,
        "client": client,
        "scheme": "https" if private else "http",
        "method": request.method,
        "root_path": root_path,
        "path": root_path + request.path,
        "raw_path": root_path.encode("ascii") + raw_path if root_path else raw_path,
        "query_string": query,
        "headers": request.headers,
        "state": state.copy(),
        "extensions": {
            "http.response.pathsend": {},
            "trickles.checkpoint": {} if checkpoint is None else {"state": checkpoint},
        },
    }
    if request.websocket:
        del scope["method"]
        scope["asgi"]["spec_version"] = "2.4"
        scope.update({"type": "websocket", "subprotocols": []})
        scope["scheme"] = "wss" if private else "ws"
        scope["extensions"] = {"websocket.http.response": {}}
    if config.proxy_headers:
        apply(scope, trusted(config.forwarded_allow_ips))
    return scope


def full_path(scope: Scope) -> str:
    """Path and query as the access log shows them."""
    path = quote(scope["path"])
    if scope["query_string"]:
        return f"{path}?{scope['query_string'].decode('ascii')}"
    return path


def network_of(r: Redeemed, config: HttpConfig) -> Prefix:
    """What shares caps, and room in the store, with who asks."""
    return prefix_of(client_of(r.address, r.origin, config)[0])
