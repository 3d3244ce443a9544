"""What a server can be told, and what it takes from that: application, socket, event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self

from trickles_web.config import PRIVATE_SCHEME, SCHEME, HttpConfig
from trickles_web.errors import UsageError
from trickles_web.http import framing, proxy_headers
from trickles_web.http.importer import made_by_factory
from trickles_web.http.parsers import parser, speaks_websocket
from trickles_web.http.request import check_globs
from trickles_web.net import logs, steering, stores
from trickles_web.net.application import hosted, import_application, static_application, static_root
from trickles_web.net.identity import load_identity
from trickles_web.net.sockets import (
    bind_udp,
    inherited_udp,
    is_loopback,
    parse_listen,
)
from trickles_web.transport.origin import pack_origin, unpack_origin
from trickles_web.transport.private.exchange import Exchange

if TYPE_CHECKING:
    from trickles_web.credentials import Identity
    from trickles_web.net.monitoring.listener import Listener
    from trickles_web.net.monitoring.tallies import Tally

PROGRAMS = {"flow": steering.steer_by_flow, "random": steering.steer_at_random}
FEATURES: Final = ("gso", "gro", "steering", "tmpfs", "pdeathsig")
"""What Linux does for us, and need not: see `trickles-serve --help`, --without."""
RELOAD_DELAY_S: Final = 0.25
_LEAST: Final = {
    "workers": 1,
    "threads": 1,
    "ws_max_size": 1,
    "reload_delay": 0,
    "limit_request_body": 0,
    "h11_max_incomplete_event_size": 1,
    "limit_concurrency": 1,
    "limit_max_requests": 1,
    "limit_max_requests_jitter": 0,
    "timeout_graceful_shutdown": 0,
    "timeout_worker_healthcheck": 1,
}


@dataclass(frozen=True, slots=True)
class Config:
    """What `trickles-serve` can be told. Exactly one of `app` and `static` is given."""

    app: Any = None
    """An ASGI or WSGI application, or its name `module:attribute`."""
    interface: str = "auto"
    """`asgi3`, `asgi2` or `wsgi`; `auto` looks at it."""
    env_file: str | None = None
    """A file of environment variables, which are set if they are not."""
    factory: bool = False
    """`app` is called, without arguments, to make the application."""
    threads: int = 10
    """Calls of a WSGI application at a time, in each worker."""
    static: str | None = None
    """A directory to serve instead."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    fd: int | None = None
    """Descriptor of an inherited, bound UDP socket, instead of host and port."""
    workers: int | None = None
    """By default as many as $WEB_CONCURRENCY says, or 1."""
    reload: bool = False
    """Begin anew with a changed application, when a file of these changes:"""
    reload_dirs: Sequence[str] = ()
    """by default the current directory,"""
    reload_includes: Sequence[str] = ()
    """patterns of names beside `*.py`,"""
    reload_excludes: Sequence[str] = ()
    """and of those that do not count, beside those of `reloading.EXCLUDED`."""
    reload_delay: float = RELOAD_DELAY_S
    """Seconds that changes are gathered for."""
    gateway: str | None = None
    """HOST:PORT of a TCP gateway to run beside the workers."""
    metrics: str | None = None
    """HOST:PORT, or a port of the loopback, of a TCP listener for metrics and a status page."""
    preferred_address: str | None = None
    """ADDRESS:PORT at which clients are asked to go on: this replica's own, behind a shared one."""
    ssl_certfile: str | None = None
    """Certificates (PEM), the server's own first: who it is for clients of private flows."""
    ssl_keyfile: str | None = None
    """The key of that, or the server's public identity without one; by default in `ssl_certfile`,
    or derived from the secret."""
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    post_quantum: bool = False
    """Offer ML-KEM-768 with X25519 beside X25519 alone for the secrets of private flows."""
    allow_cleartext: bool = False
    """Serve flows that are not private beyond the loopback too, or beside a certificate."""
    secret_file: str | None = None
    service: str | None = None
    """What continuations are sealed for; by default the application's name or the static root."""
    app_dir: str = ""
    root_path: str = ""
    lifespan: str = "auto"
    loop: str = "auto"
    http: str = "auto"
    ws: str = "auto"
    ws_max_size: int = HttpConfig().ws_max_bytes
    """Bytes of the largest WebSocket message."""
    ws_per_message_deflate: bool = True
    request_buffering: bool = True
    """The application is called for a whole request; False: for its head."""
    proxy_headers: bool = True
    forwarded_allow_ips: str | None = None
    """Proxies that are believed; by default those of $FORWARDED_ALLOW_IPS, as uvicorn's."""
    server_header: bool = True
    date_header: bool = True
    headers: Sequence[tuple[str, str]] = ()
    """More that every response has."""
    store: str = field(default="auto", repr=False)  # which may hold a password
    """Where soft state is kept: `auto`, `memory`, `dir:PATH` or `redis://HOST:PORT/DATABASE`."""
    peer: str | None = None
    """HOST:PORT where replicas on other machines reach this one, with a store in Redis."""
    limit_request_body: int = HttpConfig().max_body_bytes
    """Bytes of the largest request body."""
    h11_max_incomplete_event_size: int | None = None
    """Bytes of the largest request head, whatever parses it. uvicorn's name for that."""
    limit_concurrency: int | None = None
    """Application calls at a time; what comes beyond them is answered with 503."""
    limit_max_requests: int | None = None
    """A worker that has called the application so often is replaced by another."""
    limit_max_requests_jitter: int = 0
    """So many more at most, drawn anew by each worker, lest all are replaced at once."""
    never_rerun: Sequence[str] = ()
    """Patterns of paths whose requests run at most once, whatever their method."""
    rerun: str = "safe"
    """`safe`: by the method. `never`: as if `never_rerun` matched every path."""
    file_identity: str = "stat"
    """What names a file's version: size and mtime (`stat`), or its `content`."""
    log_config: dict[str, Any] | str | None = None
    """For `logging.config`, or a file of it (.ini, .json, .yaml); by default `logs.logging_config`.
    """
    log_level: str | None = None
    """By default `info`, or what `log_config` says."""
    access_log: bool = True
    access_log_format: str = "uvicorn"
    """Or `json`: an object for each request, at its end."""
    use_colors: bool | None = None
    without: Sequence[str] = ()
    """FEATURES that are not used."""
    steered: int = 0
    """Sockets that share the port with this one, itself among them; 0: it is alone."""
    steering: str = "flow"
    """`flow`: a flow meets one worker. `random`: any datagram meets any worker."""
    timeout_graceful_shutdown: float = 10.0
    """Seconds that application calls have to end when the server is told to."""
    shutdown_timeout_s: float = 5.0
    """The application's lifespan shutdown may take this long."""
    timeout_worker_healthcheck: float = 5.0
    """Seconds that a worker may take to show that it lives, before it is killed and replaced."""

    def __post_init__(self) -> None:
        if (self.app is None) == (self.static is None):
            raise UsageError("give an application (MODULE:ATTRIBUTE) or --static DIR, one of them")
        if self.env_file is not None:
            load_environment(self.env_file)
        _ = self.count  # raises if it is none
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} {value}: at least {least}")
        if self.reload and (self.workers or 1) > 1:
            raise UsageError("--reload is for one worker; leave out --workers or --reload")
        if self.reload and not isinstance(self.app, str):
            raise UsageError("--reload imports the application anew: give it as MODULE:ATTRIBUTE")
        if unknown := set(self.without) - set(FEATURES):
            raise UsageError(f"--without {min(unknown)}: one of {', '.join(FEATURES)}")
        framing.check_headers(self.headers)
        stores.check(self.store)
        _ = self.preferred  # raises if it is none
        if self.ssl_certfile or self.ssl_keyfile:
            self.identity(b"")  # likewise
        elif self.ssl_keyfile_password:
            raise UsageError("--ssl-keyfile-password: of what? give --ssl-keyfile too")
        if self.metrics is not None:
            _ = _listener(), self._metrics_at  # raises if there is none
        if self.access_log_format not in logs.ACCESS_FORMATS:
            raise UsageError(f"--access-log-format: one of {', '.join(logs.ACCESS_FORMATS)}")
        if self.peer and not self.store.startswith(stores.REDIS):
            raise UsageError("--peer: only with --store redis://…, which replicas share")
        if self.peer and self.count > 1 and not self.peer.endswith(":0"):
            raise UsageError("--peer: several workers need a port each; give HOST:0")
        parser(self.http)
        speaks_websocket(self.ws)
        proxy_headers.check(*self._believed)
        if self.rerun not in ("safe", "never"):
            raise UsageError("--rerun: safe or never")
        check_globs(self.never_rerun)
        if not self.root_path.isascii():
            raise UsageError("--root-path: percent-encode what is not ASCII")
        if self.fd is not None and self.count > 1:
            raise UsageError("--fd is one socket, for one worker; leave out --workers or --fd")

    @property
    def count(self) -> int:
        """Of worker processes. Raises UsageError."""
        return self.workers or (1 if self.reload else _web_concurrency())

    @property
    def supervised(self) -> bool:
        """Several processes, and one that watches them."""
        return self.count > 1 or self.gateway is not None or self.reload

    @property
    def service_name(self) -> str:
        """Names the keys and the secret's file: the same after a restart, another for another
        service.
        """
        if self.service:
            return self.service
        if self.static is not None:
            return f"static {static_root(self.static)}"
        if isinstance(self.app, str):
            return self.app
        kind = type(self.app)
        name = getattr(self.app, "__qualname__", kind.__qualname__)
        return f"{getattr(self.app, '__module__', kind.__module__)}:{name}"

    def load_application(self) -> Any:
        if self.static is not None:
            return static_application(self.static, by_content=self.file_identity == "content")
        if isinstance(self.app, str):
            app = import_application(self.app, self.app_dir, self.factory)
        else:
            app = made_by_factory(self.app, self.factory)
        return hosted(app, self.interface, self.threads)

    def bind(self) -> socket.socket:
        if self.fd is not None:
            return inherited_udp(self.fd)
        sock = bind_udp(self.host, self.port, reuse_port=self.steered > 0)
        if self.steered > 1 and "steering" not in self.without:
            program = PROGRAMS[self.steering](self.steered)
            steering.attach(sock, program)
        return sock

    def cleartext(self, host: str) -> bool:
        """Are flows in clear served at this address?"""
        return self.allow_cleartext or (self.ssl_certfile is None and is_loopback(host))

    def scheme(self, host: str) -> str:
        """Of this server's URLs, bound to this address."""
        return SCHEME if self.cleartext(host) else PRIVATE_SCHEME

    def identity(self, secret: bytes) -> Identity:
        """Who this server is. Raises UsageError."""
        files = (self.ssl_certfile, self.ssl_keyfile, self.ssl_keyfile_password)
        return load_identity(*files, secret, self.service_name)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """By which clients may agree with it on secrets."""
        return tuple(Exchange) if self.post_quantum else (Exchange.X25519,)

    @property
    def preferred(self) -> bytes:
        """The preferred address as it is sent; b"" if there is none. Raises UsageError."""
        if self.preferred_address is None:
            return b""
        option = "--preferred-address"
        host, port = parse_listen(option, self.preferred_address)
        try:
            address = pack_origin(host, port)
        except ValueError:
            raise UsageError(
                f"{option} {self.preferred_address}: give an address, not a name"
            ) from None
        if not port or unpack_origin(address)[0] in ("0.0.0.0", "::"):
            raise UsageError(f"{option} {self.preferred_address}: clients cannot send to that")
        return address

    @property
    def _metrics_at(self) -> tuple[str, int]:
        text = self.metrics or ""
        return parse_listen("--metrics", text if ":" in text else f"127.0.0.1:{text}")

    def monitored(
        self, tallies: Callable[[], list[Tally]]
    ) -> contextlib.AbstractContextManager[object]:
        """While it is open, what `tallies` gives can be seen at `metrics`, if that is set.

        tallies: called in another thread. Raises UsageError.
        """
        if self.metrics is None:
            return contextlib.nullcontext()
        return _listener()(*self._metrics_at, tallies)

    @property
    def _believed(self) -> tuple[str, str]:
        """What says whose headers count, and whose do."""
        if self.forwarded_allow_ips is not None:
            return "--forwarded-allow-ips", self.forwarded_allow_ips
        variable = "FORWARDED_ALLOW_IPS"
        return f"${variable}", os.environ.get(variable, HttpConfig().forwarded_allow_ips)

    def http_config(self) -> HttpConfig:
        more = tuple((n.lower().encode(), value.encode("latin-1")) for n, value in self.headers)
        return HttpConfig(
            http=self.http,
            ws=self.ws,
            ws_max_bytes=self.ws_max_size,
            ws_per_message_deflate=self.ws_per_message_deflate,
            request_buffering=self.request_buffering,
            proxy_headers=self.proxy_headers,
            forwarded_allow_ips=self._believed[1],
            max_body_bytes=self.limit_request_body,
            file_identity=self.file_identity,
            never_rerun=("*",) if self.rerun == "never" else tuple(self.never_rerun),
            lifespan=self.lifespan,
            root_path=self.root_path,
            access_log=self.access_log,
            access_log_format=self.access_log_format,
            server_header=self.server_header and b"server" not in dict(more),
            date_header=self.date_header and b"date" not in dict(more),
            headers=more,
            max_running=self.limit_concurrency or HttpConfig().max_running,
            max_head_bytes=self.h11_max_incomplete_event_size or HttpConfig().max_head_bytes,
        )

    def configure_logging(self) -> None:
        """For this process. Raises UsageError."""
        logs.configure(self.log_level, self.use_colors, self.log_config, self.access_log_format)

    def to_json(self) -> str:
        """For a worker, which is another process. Raises UsageError."""
        try:
            return json.dumps({one.name: getattr(self, one.name) for one in fields(self)})
        except TypeError as error:
            raise UsageError(f"workers are told in JSON: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def _listener() -> type[Listener]:
    """Raises UsageError."""
    try:
        from trickles_web.net.monitoring.listener import Listener
    except ImportError:
        raise UsageError("--metrics: pip install 'trickles-web[metrics]'") from None
    return Listener


def _web_concurrency() -> int:
    variable = "WEB_CONCURRENCY"
    text = os.environ.get(variable) or "1"
    if not text.isdecimal() or not int(text):
        raise UsageError(f"${variable} is {text!r}: give a number of workers")
    return int(text)


def load_environment(file: str) -> None:
    """What `file` sets, as far as it is not set. Raises UsageError."""
    try:
        import dotenv
    except ImportError:
        raise UsageError("--env-file: pip install 'trickles-web[standard]'") from None
    if not os.path.isfile(file):
        raise UsageError(f"--env-file {file}: no such file")
    dotenv.load_dotenv(file)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """`auto` is uvloop where it is installed. Raises UsageError."""
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if name == "auto":
            return asyncio.new_event_loop
        raise UsageError("--loop uvloop: pip install 'trickles-web[speed]'") from None
    return uvloop.new_event_loop
