"""trickles-gateway: lets whatever speaks HTTP over TCP talk to a Trickles server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence

import click

import trickles_web
from trickles_web.client.url import join_authority, parse_listen, parse_url
from trickles_web.errors import UsageError
from trickles_web.gateway import MAX_CONNECTIONS, Gateway, GatewayConfig
from trickles_web.net import logs

PROGRAM = "trickles-gateway"
DESCRIPTORS_PER_CONNECTION = 2
"""A TCP socket and a UDP socket."""
SPARE_DESCRIPTORS = 64

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
@click.argument("url", metavar="trickles://HOST[:PORT]")
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
    help="Descriptor on which to report readiness.",
)
@click.version_option(trickles_web.__version__, prog_name=PROGRAM, allow_from_autoenv=False)
def command(
    url: str,
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
    target = parse_url(url)
    if target.target != "/":
        raise UsageError(
            f"bad URL {url!r}: a gateway relays whole connections; leave the path away"
        )
    config = GatewayConfig(
        host=target.host,
        port=target.port,
        listen=tuple(dict.fromkeys(parse_listen(text) for text in listen)),
        max_connections=affordable(max_connections),
    )
    factory = _loop_factory(loop)
    logs.configure(log_level)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(config, child))


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
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


async def serve(config: GatewayConfig, ready: int | None = None) -> None:
    """Relay until SIGINT or SIGTERM. ready: descriptor that is told when it listens."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(config)
    await gateway.start()
    server = join_authority(config.host, config.port)
    for host, port in gateway.addresses:
        logger.info(
            "Trickles gateway: http://%s -> trickles://%s", join_authority(host, port), server
        )
    if ready is not None:
        os.write(ready, b"ready\n")
        os.close(ready)
    try:
        await stop.wait()
    finally:
        await gateway.close()


if __name__ == "__main__":
    sys.exit(main())
