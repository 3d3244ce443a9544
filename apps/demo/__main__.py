"""The command line: `python -m apps.demo`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import click
from uvicorn import Config, Server

from apps import large_files
from apps.demo import halves
from apps.demo.control import Control, File
from apps.demo.halves import PORTS, Half, Ports
from apps.demo.processes import DemoError, start_all
from apps.demo.sprayer import HOST, Sprayer

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
    "--rate",
    type=click.IntRange(min=50_000),
    default=1_000_000,
    help="Of each client's line, in bytes a second.",
)
def command(port: int, megabytes: int, rate: int) -> None:
    """Kill servers in a browser, and see what becomes of a download and of a stream of events."""
    try:
        asyncio.run(_until_signalled(Ports(port), megabytes, rate))
    except DemoError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        sys.exit(1)


async def _until_signalled(ports: Ports, megabytes: int, rate: int) -> None:
    """A signal cancels, so that all is cleared away, or ends the server, once there is one."""
    task = asyncio.current_task()
    assert task is not None
    _on_signals(task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await _run(ports, megabytes, rate)


def _on_signals(act: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, act)


async def _run(ports: Ports, megabytes: int, rate: int) -> None:
    ports.check()
    with tempfile.TemporaryDirectory(prefix="trickles-demo-") as name:
        folder = Path(name)
        file = await asyncio.to_thread(_file, folder, megabytes)
        sprayer = Sprayer(ports.sprayer, [(HOST, port) for port in ports.replicas], rate)
        with contextlib.closing(sprayer):
            async with _started(ports, folder, rate) as running:
                await _serve(ports.page, running, sprayer, file)


def _file(folder: Path, megabytes: int) -> File:
    made = large_files.large_file(folder, megabytes)
    digest = large_files.checksum_file(folder, megabytes).read_text(encoding="ascii").split()[0]
    return File(f"/files/{made.name}", made.stat().st_size, digest)


@contextlib.asynccontextmanager
async def _started(ports: Ports, folder: Path, rate: int) -> AsyncIterator[dict[str, Half]]:
    """The halves that there can be, by name. Raises DemoError."""
    running = {"trickles": halves.trickles(ports, folder)}
    compared = halves.uvicorn(ports, folder, rate)
    if compared is not None:
        running["uvicorn"] = compared
    processes = [process for half in running.values() for process in half.processes]
    try:
        await start_all(processes)
        yield running
    finally:
        for process in processes:
            process.end()


class PageServer(Server):
    """uvicorn's, but for signals, which are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _serve(port: int, running: dict[str, Half], sprayer: Sprayer, file: File) -> None:
    def ending() -> bool:
        return server.should_exit

    def end() -> None:
        server.should_exit = True

    control = Control(running, list(sprayer.counts.values()), file, ending)
    server = PageServer(
        Config(control.application(port), host=HOST, port=port, log_level="warning")
    )
    _on_signals(end)
    if "uvicorn" not in running:
        click.echo(NO_NGINX)
    with socket.create_server((HOST, port)) as listener:
        click.echo(f"Open http://{HOST}:{port}/ in a browser. Ctrl-C ends the demonstration.")
        await server.serve([listener])


if __name__ == "__main__":
    command()
