"""The servers of a comparison: ours and those that people use, all with one application.

One process each, no access log, log level warning, on the core of servers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass

from loadtest.first_byte import trickles
from loadtest.http3 import certificate
from loadtest.measure import server_core
from loadtest.processes import PATIENCE_S, Process, Stage, free_udp_port
from trickles_web.client.tokens import TokenStore
from trickles_web.errors import FlowError

HOST = "127.0.0.1"
APP = "loadtest.application:app"
HTTP3 = "hypercorn-h3"
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Server:
    """Which server, with which parser and event loop: "" where it has no choice."""

    program: str
    http: str = ""
    loop: str = ""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.program, self.http, self.loop)))

    @property
    def udp(self) -> bool:
        return self.program == "trickles"


PARSERS, LOOPS = ("h11", "httptools"), ("asyncio", "uvloop")


def with_each_parser_and_loop(program: str) -> list[Server]:
    return [Server(program, http, loop) for http in PARSERS for loop in LOOPS]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers requests."""

    server: Server
    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def start(
    stage: Stage,
    server: Server,
    app: str = APP,
    more: tuple[str, ...] = (),
    *,
    pinned: bool = True,
) -> Running:
    """Start it, and wait until it answers. `more`: further options. `pinned`: to servers' core.

    Raises RuntimeError if it does not.
    """
    port = free_udp_port() if server.udp else free_tcp_port()
    words = _WORDS[server.program](server, app, port)
    if server.program == HTTP3:
        file, key = certificate(stage.directory)
        more = (*more, f"--certfile={file}", f"--keyfile={key}")
    name = server.name.replace(" ", "-")
    process = stage.python(name, *words, *more, before=server_core() if pinned else ())
    await_answer(process, server, port)
    return Running(server, process, port)


def free_tcp_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _trickles(server: Server, app: str, port: int) -> tuple[str, ...]:
    words = ("trickles_web.cli.serve", f"--port={port}", f"--http={server.http or 'auto'}")
    loop = f"--loop={server.loop or 'auto'}"
    return (*words, loop, "--no-access-log", "--log-level=warning", *filter(None, [app]))


def _uvicorn(server: Server, app: str, port: int) -> tuple[str, ...]:
    words = ("uvicorn", app, f"--port={port}", f"--http={server.http or 'auto'}")
    return (*words, f"--loop={server.loop or 'auto'}", "--no-access-log", "--log-level=warning")


def _granian(server: Server, app: str, port: int) -> tuple[str, ...]:
    words = ("granian", app, "--interface=asgi", f"--port={port}", "--workers=1", "--http=1")
    return (*words, f"--loop={server.loop or 'auto'}", "--no-access-log", "--log-level=warning")


def _hypercorn(server: Server, app: str, port: int) -> tuple[str, ...]:
    words = ("hypercorn", app, f"--bind={HOST}:{port}", "--log-level=warning")
    return (*words, f"--worker-class={server.loop or 'asyncio'}")


def _http3(server: Server, app: str, port: int) -> tuple[str, ...]:
    words = _hypercorn(server, app, port)
    return (*words, f"--quic-bind={HOST}:{port}")


_WORDS = {
    "trickles": _trickles,
    "uvicorn": _uvicorn,
    "granian": _granian,
    "hypercorn": _hypercorn,
    HTTP3: _http3,
}


def await_answer(process: Process, server: Server, port: int) -> None:
    """Raises RuntimeError if it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.popen.poll() is None:
        try:
            if server.udp:
                asyncio.run(trickles(HOST, port, TokenStore(None)))
            else:
                socket.create_connection((HOST, port), PATIENCE_S).close()
            return
        except (OSError, EOFError, FlowError):
            time.sleep(LOOK_S)
    raise RuntimeError(f"{server.name} does not answer on port {port}:\n{process.log}")
