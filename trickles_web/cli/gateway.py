"""trickles-gateway: lets whatever speaks HTTP over TCP talk to a Trickles server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

import trickles_web
from trickles_web.cli.trusting import PRIVATE_HELP, Trusting, only_for_private, trusting
from trickles_web.client.routing import Place, place
from trickles_web.client.url import join_authority, parse_listen, parse_url
from trickles_web.config import PRIVATE_SCHEME, SCHEME, ClientConfig
from trickles_web.errors import UsageError
from trickles_web.gateway import Gateway, GatewayConfig
from trickles_web.listening import MAX_CONNECTIONS
from trickles_web.listening import listen as listen_at
from trickles_web.net import logs, secret
from trickles_web.net.children import READY, Link
from trickles_web.proxy.proxy import Proxy, ProxyConfig

PROGRAM = "trickles-gateway"
DESCRIPTORS_PER_CONNECTION = 2
"""A TCP socket and a UDP socket."""
SPARE_DESCRIPTORS = 64
PROXY_USER = "trickles"
ONLY_HELP = (
    "Ask this host over Trickles, and those that are not named over TCP; may be given several "
    "times. Unless told, all are asked over Trickles."
)

logger = logging.getLogger("trickles.gateway")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0 after a signal, 2 for what the user must put right."""
    try:
        result = command.main(args=argv, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return _complain(error.format_message())
    except UsageError as error:
        return _complain(str(error))
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _complain(message: str) -> int:
    click.echo(f"{PROGRAM}: {message}", err=True)
    return 2


@click.command(context_settings={"auto_envvar_prefix": "TRICKLES_GATEWAY", "show_default": True})
@click.argument("url", metavar="[trickles[s]://HOST[:PORT]]", required=False)
@click.option(
    "--proxy",
    is_flag=True,
    help="Be a proxy instead, for programs that are told of one: to the server that each request "
    "names. No URL then.",
)
@click.option(
    "--password-file",
    metavar="FILE",
    help="Of the proxy, for its user `trickles`: 32 or more characters, made at the first start. "
    "In a state directory unless told.",
)
@click.option("--only", multiple=True, metavar="HOST[:PORT]", help=ONLY_HELP)
@click.option(
    "--replica",
    multiple=True,
    metavar="HOST:PORT",
    help="Where else the service answers: flows are spread over all, and go on at another when "
    "theirs is silent. To a proxy give all of them, and a request to one may go to any.",
)
@click.option("--private", is_flag=True, help=f"Of the proxy: {PRIVATE_HELP}")
@trusting()
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    default=("127.0.0.1:8080",),
    help="TCP address to listen on; may be given several times.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    default=MAX_CONNECTIONS,
    help="TCP connections at a time; further ones wait to be accepted.",
)
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    help="Event loop; auto takes uvloop if it is installed.",
)
@click.option("--log-level", type=click.Choice(list(logs.LEVELS)), default="info")
@click.option(
    "--child",
    type=int,
    hidden=True,
    allow_from_autoenv=False,
    help="Descriptor of the channel to a supervisor.",
)
@click.version_option(trickles_web.__version__, prog_name=PROGRAM, allow_from_autoenv=False)
def command(
    url: str | None,
    proxy: bool,
    password_file: str | None,
    only: tuple[str, ...],
    replica: tuple[str, ...],
    private: bool,
    trusting: Trusting,
    listen: tuple[str, ...],
    max_connections: int,
    loop: str,
    log_level: str,
    child: int | None,
) -> None:
    """Relay TCP connections to the Trickles server at URL, byte for byte.

    curl, wrk and browsers work unchanged through it. A response that breaks off ends in a TCP
    reset, so that a part is never taken for the whole.
    """
    places = tuple(dict.fromkeys(parse_listen(text) for text in listen))
    most = affordable(max_connections)
    client = ClientConfig(replicas=replicas_of(replica))
    if proxy:
        if url is not None:
            raise UsageError("a proxy takes no URL: each request names its server")
        if private or trusting.given:
            client = trusting.private(client)
        path = _password_file(password_file)
        proxying = ProxyConfig(_credential(path), places_of(only), most, client)
        work = serve_proxy(proxying, places, path)
    elif password_file or only or private:
        raise UsageError("--password-file, --only and --private are for a proxy; add --proxy")
    else:
        relaying = _relaying(url, places, most, client, trusting)
        work = serve(relaying, None if child is None else Link(child))
    factory = loop_factory(loop)
    logs.configure(log_level)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def _relaying(
    url: str | None,
    listen: Sequence[tuple[str, int]],
    most: int,
    client: ClientConfig,
    trusting: Trusting,
) -> GatewayConfig:
    if url is None:
        raise UsageError("name the server, such as trickles://127.0.0.1:8000; or add --proxy")
    target = parse_url(url)
    if target.target != "/":
        raise UsageError(
            f"bad URL {url!r}: a gateway relays whole connections; leave the path away"
        )
    only_for_private(target, trusting)
    return GatewayConfig(
        target.host, target.port, listen, most, trusting.config_for(target, client)
    )


def places_of(only: Sequence[str]) -> list[Place] | None:
    """What --only names. Raises UsageError."""
    return [place(text) for text in only] or None


def replicas_of(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """What --replica names. Raises UsageError."""
    found = []
    for text in texts:
        host, port = place(text)
        if not port:
            raise UsageError(f"bad replica {text!r}: give HOST:PORT, such as 127.0.0.1:8000")
        found.append((host, port))
    return tuple(found)


def _password_file(told: str | None) -> Path:
    path = Path(told) if told else secret.state_directory() / "proxy.password"
    try:
        if not path.exists():
            secret.create_secret(path)
    except OSError as error:
        raise UsageError(f"--password-file {path}: {error.strerror}") from None
    secret.read_secrets(path)
    return path


def _credential(path: Path) -> bytes:
    return PROXY_USER.encode() + b":" + path.read_bytes().strip()


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop of this name. Raises UsageError if it is not installed."""
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise UsageError("uvloop is not installed; pip install uvloop") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def affordable(connections: int) -> int:
    """As many of these connections as the descriptor limit, raised where permitted, allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * DESCRIPTORS_PER_CONNECTION + SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return max(1, min(connections, (soft - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION))


async def serve(config: GatewayConfig, link: Link | None = None) -> None:
    """Relay until SIGINT or SIGTERM. link: to the supervisor."""
    if link is not None:
        link.live()
    stop = stopped_by_signals()
    gateway = Gateway(config)
    await gateway.start()
    scheme = SCHEME if config.client.private is None else PRIVATE_SCHEME
    server = f"{scheme}://{join_authority(config.host, config.port)}"
    for host, port in gateway.addresses:
        logger.info("Trickles gateway: http://%s -> %s", join_authority(host, port), server)
    if link is not None:
        link.say(READY)
    try:
        await stop.wait()
    finally:
        await gateway.close()


async def serve_proxy(
    config: ProxyConfig, places: Sequence[tuple[str, int]], password_file: Path
) -> None:
    """Be a proxy, listening at these places, until SIGINT or SIGTERM."""
    stop = stopped_by_signals()
    proxy = Proxy(config)
    proxy.start(await listen_at(places))
    for host, port in proxy.addresses:
        where = join_authority(host, port)
        told = f"for user {PROXY_USER} with the password in {password_file}"
        logger.info("Trickles proxy: http://%s %s", where, told)
    try:
        await stop.wait()
    finally:
        await proxy.close()


def stopped_by_signals() -> asyncio.Event:
    """Is set at SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    sys.exit(main())
