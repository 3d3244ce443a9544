"""The command `trickles-serve`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES

import click

import trickles_web
from trickles_web.errors import UsageError
from trickles_web.http.request import check_globs
from trickles_web.net import endpoint, logs
from trickles_web.net.options import Config
from trickles_web.net.secret import ENVIRONMENT, LARGEST_FILE, load_secret
from trickles_web.net.server import Server
from trickles_web.net.supervisor import Supervisor

COMPILED = endpoint.__file__.endswith(tuple(EXTENSION_SUFFIXES))
"""Are the modules that each datagram passes C extensions? See hatch_build.py."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _bytes(context: click.Context, option: click.Parameter, text: str) -> int:
    """`16M` and the like, multiples of 1024."""
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text.strip().upper())
    if match is None:
        raise click.BadParameter(f"{text!r}: give bytes, such as 500000, 16M or 2G")
    return int(match[1]) * _UNITS[match[2]]


def _host(context: click.Context, option: click.Parameter, text: str) -> str:
    """An IPv6 address may stand in brackets, as it does in URLs and in our own log."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _globs(
    context: click.Context, option: click.Parameter, globs: tuple[str, ...]
) -> tuple[str, ...]:
    """Patterns that some path can match."""
    try:
        check_globs(globs)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return globs


@click.command(
    context_settings={"auto_envvar_prefix": "TRICKLES", "help_option_names": ["--help"]},
    epilog="Every option can be given as an environment variable TRICKLES_<OPTION>. "
    "The master secret may be given as TRICKLES_SECRET (hex or base64, 32 bytes or more).",
)
@click.argument("app", required=False, envvar="TRICKLES_APP")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_host,
    help="Bind the UDP socket to this host.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Bind the UDP socket to this port. If 0, an available port will be picked.",
)
@click.option("--fd", type=int, help="Use the bound UDP socket of this file descriptor.")
@click.option("--static", metavar="DIR", help="Serve the files of a directory instead of an APP.")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Number of worker processes, which share the port.",
)
@click.option(
    "--steering",
    type=click.Choice(["flow", "random"]),
    default="flow",
    show_default=True,
    help="Which worker gets a datagram: one for each flow, or any for each datagram, "
    "to show that any can answer it.",
)
@click.option(
    "--gateway",
    metavar="HOST:PORT",
    help="Run a TCP gateway to this server too, for curl and browsers.",
)
@click.option(
    "--secret-file",
    metavar="FILE",
    help="File of the master secret, which all replicas share.  "
    "[default: made at the first start, in the state directory]",
)
@click.option(
    "--log-level",
    type=click.Choice(list(logs.LEVELS)),
    default="info",
    show_default=True,
    help="Log level.",
)
@click.option(
    "--access-log/--no-access-log", default=True, show_default=True, help="Log each request."
)
@click.option(
    "--use-colors/--no-use-colors", default=None, help="Enable/Disable colorized logging."
)
@click.option(
    "--app-dir",
    default="",
    metavar="DIR",
    help="Look for APP in this directory.  [default: the current directory]",
)
@click.option(
    "--root-path",
    default="",
    help="The ASGI root_path, for an application below a path of a reverse proxy.",
)
@click.option(
    "--lifespan",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Lifespan implementation.",
)
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="Event loop implementation.",
)
@click.option(
    "--interface",
    type=click.Choice(["auto", "asgi3", "asgi2", "wsgi"]),
    default="auto",
    show_default=True,
    help="Application interface.",
)
@click.option("--factory", is_flag=True, help="Treat APP as an application factory.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=10,
    show_default=True,
    help="Calls of a WSGI application at a time, in each worker.",
)
@click.option(
    "--http",
    type=click.Choice(["auto", "h11", "httptools"]),
    default="auto",
    show_default=True,
    help="HTTP parser implementation.",
)
@click.option(
    "--ws",
    type=click.Choice(["auto", "wsproto", "none"]),
    default="auto",
    show_default=True,
    help="WebSocket protocol implementation.",
)
@click.option(
    "--ws-max-size",
    default="16M",
    show_default=True,
    metavar="BYTES",
    callback=_bytes,
    help="Largest WebSocket message, in bytes or with K, M or G.",
)
@click.option(
    "--ws-per-message-deflate",
    type=bool,
    default=True,
    show_default=True,
    help="WebSocket per-message-deflate compression.",
)
@click.option(
    "--request-buffering/--no-request-buffering",
    default=True,
    show_default=True,
    help="Call the application when a request is whole, or as soon as its head is here: "
    "then it reads the body as it comes, and cannot outlive its process.",
)
@click.option(
    "--proxy-headers/--no-proxy-headers",
    default=True,
    show_default=True,
    help="Take scheme and client address from X-Forwarded-Proto and X-Forwarded-For.",
)
@click.option(
    "--forwarded-allow-ips",
    metavar="LIST",
    help="Addresses, networks or names of proxies whose headers are believed, and of gateways that "
    "are believed for whom they speak, with commas between; '*' for all.  "
    "[default: $FORWARDED_ALLOW_IPS, or 127.0.0.1]",
)
@click.option(
    "--store",
    default="auto",
    show_default=True,
    metavar="auto|memory|dir:PATH|redis://HOST",
    help="Where requests in progress, responses and the ledger of executed requests are kept. "
    "auto: a directory that all workers of this machine share, and that outlives them.",
)
@click.option(
    "--peer",
    metavar="HOST:PORT",
    help="Where replicas on other machines reach this one over UDP, with --store redis://…  "
    "[default: any port of the address that leads to Redis]",
)
@click.option(
    "--limit-request-body",
    default="16M",
    show_default=True,
    metavar="BYTES",
    callback=_bytes,
    help="Largest request body, in bytes or with K, M or G; larger ones are answered with 413.",
)
@click.option(
    "--never-rerun",
    multiple=True,
    metavar="GLOB",
    callback=_globs,
    help="Requests whose path matches run at most once, whatever their method. Give it more than "
    "once, or several in the environment with spaces between.",
)
@click.option(
    "--rerun",
    type=click.Choice(["safe", "never"]),
    default="safe",
    show_default=True,
    help="Which requests run again if their process dies before the response is out: those that "
    "change nothing (GET, HEAD, OPTIONS, TRACE), or none, as with --never-rerun '*'.",
)
@click.option(
    "--timeout-graceful-shutdown",
    type=click.FloatRange(min=0, max=86_400),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How long requests in progress may take to complete when the server is told to end.",
)
@click.option(
    "--file-identity",
    type=click.Choice(["stat", "content"]),
    default="stat",
    show_default=True,
    help="What names a file's version while it is served: its size and modification time, "
    "or its content, for replicas whose copies have other times.",
)
@click.option(
    "--preferred-address",
    metavar="ADDRESS:PORT",
    help="Ask clients to go on at this address, such as this replica's own behind an anycast one.",
)
@click.option(
    "--child",
    hidden=True,
    allow_from_autoenv=False,
    help="FD:COUNT from the supervisor: secret and readiness, workers.",
)
@click.version_option(
    trickles_web.__version__ + " (compiled)" * COMPILED,
    prog_name="trickles-serve",
    allow_from_autoenv=False,
)
def serve(
    app: str | None,
    host: str,
    port: int,
    fd: int | None,
    static: str | None,
    workers: int,
    steering: str,
    gateway: str | None,
    secret_file: str | None,
    log_level: str,
    access_log: bool,
    use_colors: bool | None,
    app_dir: str,
    root_path: str,
    lifespan: str,
    loop: str,
    interface: str,
    factory: bool,
    threads: int,
    http: str,
    ws: str,
    ws_max_size: int,
    ws_per_message_deflate: bool,
    request_buffering: bool,
    proxy_headers: bool,
    forwarded_allow_ips: str | None,
    store: str,
    peer: str | None,
    limit_request_body: int,
    never_rerun: tuple[str, ...],
    rerun: str,
    timeout_graceful_shutdown: float,
    file_identity: str,
    preferred_address: str | None,
    child: str | None,
) -> int:
    """Serve the ASGI or WSGI application APP (MODULE:ATTRIBUTE) over Trickles."""
    ready, _, steered = (child or "").partition(":")
    config = Config(
        app=app,
        static=static,
        host=host,
        port=port,
        fd=fd,
        workers=workers,
        steering=steering,
        gateway=gateway,
        secret_file=secret_file,
        app_dir=app_dir,
        root_path=root_path,
        lifespan=lifespan,
        loop=loop,
        interface=interface,
        factory=factory,
        threads=threads,
        http=http,
        ws=ws,
        ws_max_size=ws_max_size,
        ws_per_message_deflate=ws_per_message_deflate,
        request_buffering=request_buffering,
        proxy_headers=proxy_headers,
        forwarded_allow_ips=forwarded_allow_ips,
        store=store,
        peer=peer,
        limit_request_body=limit_request_body,
        never_rerun=never_rerun,
        rerun=rerun,
        timeout_graceful_shutdown=timeout_graceful_shutdown,
        file_identity=file_identity,
        preferred_address=preferred_address,
        log_level=log_level,
        access_log=access_log,
        use_colors=use_colors,
        steered=int(steered or 0),
    )
    logs.configure(log_level, use_colors)
    if config.supervised:
        return Supervisor(config).run()
    if not child:
        return Server(config, secret=_taken_secret(config)).run()
    descriptor = int(ready)
    os.set_inheritable(descriptor, False)  # the application's own children are none of its business
    secret = os.read(descriptor, LARGEST_FILE)
    return Server(config, secret=secret, on_started=lambda: _report(descriptor)).run()


def _taken_secret(config: Config) -> bytes:
    """Loaded, and gone from the environment, which the application's own children inherit."""
    secret = load_secret(config.service_name, config.secret_file)
    os.environ.pop(ENVIRONMENT, None)
    return secret


def _report(descriptor: int) -> None:
    """Tells the supervisor that this worker serves."""
    os.write(descriptor, b"ready\n")
    os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Errors of use are one line on stderr, and code 2."""
    try:
        code = serve.main(argv, prog_name="trickles-serve", standalone_mode=False)
    except click.ClickException as error:
        return _complain(error.format_message())
    except UsageError as error:
        return _complain(str(error))
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
