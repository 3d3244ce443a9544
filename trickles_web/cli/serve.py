"""The command `trickles-serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import click

import trickles_web
from trickles_web.cli import values
from trickles_web.errors import UsageError
from trickles_web.net import endpoint, logs, running
from trickles_web.net.options import FEATURES, RELOAD_DELAY_S, Config

COMPILED = endpoint.__file__.endswith(tuple(EXTENSION_SUFFIXES))
"""Are the modules that each datagram passes C extensions? See hatch_build.py."""


@click.command(
    context_settings={"auto_envvar_prefix": "TRICKLES", "help_option_names": ["--help"]},
    epilog="Every option can be given as an environment variable TRICKLES_<OPTION>, or in the "
    f"table [tool.trickles] of the {values.PROJECT_FILE} here. The master secret may be given as "
    "TRICKLES_SECRET (hex or base64, 32 bytes or more).",
)
@click.argument("app", required=False, envvar="TRICKLES_APP")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=values.host,
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
    help="Number of worker processes, which share the port.  [default: $WEB_CONCURRENCY, or 1]",
)
@click.option(
    "--reload",
    is_flag=True,
    help="Begin anew with the changed application when a file changes. What serves goes on until "
    "the new one is ready.",
)
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    metavar="DIR",
    help="Watch this directory, instead of the current one. May be given several times, as may the "
    "next two.",
)
@click.option(
    "--reload-include",
    "reload_includes",
    multiple=True,
    metavar="GLOB",
    help="Watch files of such names, too, beside '*.py'.",
)
@click.option(
    "--reload-exclude",
    "reload_excludes",
    multiple=True,
    metavar="GLOB",
    help="Do not watch files and directories of such names, nor, unless included, "
    "'.*', '.py[cod]', '.sw.*', '~*'.",
)
@click.option(
    "--reload-delay",
    type=click.FloatRange(min=0),
    default=RELOAD_DELAY_S,
    show_default=True,
    metavar="SECONDS",
    help="How long changes are gathered.",
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
    "--metrics",
    metavar="[HOST:]PORT",
    help="Show metrics for Prometheus (/metrics) and a status page (/) on this TCP port, of the "
    "loopback unless told.",
)
@click.option(
    "--secret-file",
    metavar="FILE",
    help="File of the master secret, which all replicas share.  "
    "[default: made at the first start, in the state directory]",
)
@click.option(
    "--ssl-certfile",
    metavar="FILE",
    help="Certificates (PEM, the server's own first) by which clients of private flows know it.",
)
@click.option(
    "--ssl-keyfile",
    metavar="FILE",
    help="The certificate's key, or who the server is without one.  "
    "[default: in --ssl-certfile, or derived from the secret]",
)
@click.option("--ssl-keyfile-password", metavar="TEXT", help="What opens the key file.")
@click.option(
    "--post-quantum", is_flag=True, help="Offer ML-KEM-768 with X25519 to private flows, too."
)
@click.option(
    "--allow-cleartext",
    is_flag=True,
    help="Serve flows in clear too where only private ones are served unless told: beyond the "
    "loopback, and with a certificate.",
)
@click.option(
    "--env-file",
    metavar="FILE",
    help="Set the environment variables of this file, as far as they are not set.",
)
@click.option(
    "--log-config",
    metavar="FILE",
    help="Logging configuration: .ini, .json or .yaml. The loggers are trickles.error and "
    "trickles.access.",
)
@click.option(
    "--log-level",
    type=click.Choice(list(logs.LEVELS)),
    help="Log level.  [default: info]",
)
@click.option(
    "--access-log/--no-access-log", default=True, show_default=True, help="Log each request."
)
@click.option(
    "--access-log-format",
    type=click.Choice(list(logs.ACCESS_FORMATS)),
    default="uvicorn",
    show_default=True,
    help="Log requests as uvicorn does, when the response begins, or as JSON, an object a line, "
    "at its end.",
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
    callback=values.bytes,
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
    "[default: $FORWARDED_ALLOW_IPS, or 127.0.0.1,::1]",
)
@click.option(
    "--server-header/--no-server-header",
    default=True,
    show_default=True,
    help="Send the default Server header.",
)
@click.option(
    "--date-header/--no-date-header",
    default=True,
    show_default=True,
    help="Send the default Date header.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    callback=values.headers,
    help="A header of every response. May be given several times.",
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
    callback=values.bytes,
    help="Largest request body, in bytes or with K, M or G; larger ones are answered with 413.",
)
@click.option(
    "--h11-max-incomplete-event-size",
    metavar="BYTES",
    callback=values.bytes,
    help="Largest request head, whatever parses it; larger ones are answered with 431.  "
    "[default: 64K]",
)
@click.option(
    "--limit-concurrency",
    type=click.IntRange(min=1),
    help="Application calls at a time in each worker; what comes beyond is answered with 503.  "
    "[default: 10000]",
)
@click.option(
    "--limit-max-requests",
    type=click.IntRange(min=1),
    help="Replace a worker when it has called the application so often.",
)
@click.option(
    "--limit-max-requests-jitter",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="So many more at most, at random, lest all workers are replaced at once.",
)
@click.option(
    "--never-rerun",
    multiple=True,
    metavar="GLOB",
    callback=values.globs,
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
    "--timeout-worker-healthcheck",
    type=click.FloatRange(min=1),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="Kill and replace a worker that shows no sign of life for so long.",
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
    "--without",
    multiple=True,
    type=click.Choice(FEATURES),
    help="Do without what Linux offers: segmentation of what is sent (gso) and received (gro), "
    "steering of flows to workers, files in memory (tmpfs), the end of workers with their parent "
    "(pdeathsig). May be given several times.",
)
@click.version_option(
    trickles_web.__version__ + " (compiled)" * COMPILED,
    prog_name="trickles-serve",
    allow_from_autoenv=False,
)
def serve(**told: Any) -> int:
    """Serve the ASGI or WSGI application APP (MODULE:ATTRIBUTE) over Trickles."""
    return running.serve(Config(**told))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Errors of use are one line on stderr, and code 2."""
    try:
        defaults = values.of_project(Path(values.PROJECT_FILE), serve.params)
        code = serve.main(
            argv, prog_name="trickles-serve", standalone_mode=False, default_map=defaults
        )
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
