"""The command line: `python -m apps.demo`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click
from uvicorn import Config, Server

from apps import large_files
from apps.demo import halves
from apps.demo.control import Control, File
from apps.demo.halves import HOST, PORTS, Half, Ports
from apps.demo.processes import DemoError, start_all
from apps.demo.sprayer import Sprayer

PROGRAM = "apps.demo"
NO_NGINX = "nginx is not installed, so there is nothing to compare with: apt-get install nginx"


@click.command(context_settings={"show_default": True})
@click.option(
    "--port",
    type=click.IntRange(1, 65_536 - PORTS),
    default=8090,
    help=f"The page's port. It and the {PORTS - 1} behind it must be free, all on the loopback.",
)
@click.option(
    "--megabytes",
    type=click.IntRange(1, large_files.LARGEST_MEGABYTES),
    default=60,
    help="Size of the download.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60,
    help="How long the page takes to read it.",
)
def command(port: int, megabytes: int, seconds: float) -> None:
    """Kill servers in a browser, and see what becomes of a download and of a stream of events."""
    try:
        asyncio.run(_until_signalled(Ports(port), megabytes, seconds))
    except DemoError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        sys.exit(1)


async def _until_signalled(ports: Ports, megabytes: int, seconds: float) -> None:
    """A signal cancels, so that all is cleared away; uvicorn raises it again at its end."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await _run(ports, megabytes, seconds)


async def _run(ports: Ports, megabytes: int, seconds: float) -> None:
    ports.check()
    with tempfile.TemporaryDirectory(prefix="trickles-demo-") as name:
        folder = Path(name)
        file = await asyncio.to_thread(_file, folder, megabytes, seconds)
        sprayer = Sprayer(ports.sprayer, [(HOST, port) for port in ports.replicas])
        with contextlib.closing(sprayer):
            async with _started(ports, folder) as running:
                await _serve(ports.page, running, sprayer, file)


def _file(folder: Path, megabytes: int, seconds: float) -> File:
    made = large_files.large_file(folder, megabytes)
    digest = large_files.checksum_file(folder, megabytes).read_text(encoding="ascii").split()[0]
    size = made.stat().st_size
    return File(f"/files/{made.name}", size, digest, int(size / seconds))


@contextlib.asynccontextmanager
async def _started(ports: Ports, folder: Path) -> AsyncIterator[dict[str, Half]]:
    """The halves that there can be, by name."""
    found = {"trickles": halves.trickles(ports, folder), "uvicorn": halves.uvicorn(ports, folder)}
    running = {name: half for name, half in found.items() if half is not None}
    processes = [process for half in running.values() for process in half.processes]
    try:
        await start_all(processes)
        yield running
    finally:
        for process in processes:
            process.end()


async def _serve(port: int, running: dict[str, Half], sprayer: Sprayer, file: File) -> None:
    def ending() -> bool:
        return server.should_exit

    control = Control(running, list(sprayer.counts.values()), file, ending)
    config = Config(control.application(port), host=HOST, port=port, log_level="warning")
    server = Server(config)
    if "uvicorn" not in running:
        click.echo(NO_NGINX)
    click.echo(f"Open http://{HOST}:{port}/ in a browser. Ctrl-C ends the demonstration.")
    await server.serve()


if __name__ == "__main__":
    command()
