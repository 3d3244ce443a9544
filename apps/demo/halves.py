"""The two halves: three servers each, and what stands before them."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from apps.demo.processes import DemoError, Process
from apps.demo.sprayer import HOST, REST_S

APP = "apps.demo.app:app"
REPLICAS = 3
PORTS = 4 + 2 * REPLICAS
NGINX = Template((Path(__file__).parent / "nginx.conf").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Ports:
    """So many that follow each other, the page's first; the rest in the order they have here."""

    page: int

    @property
    def gateway(self) -> int:
        return self.page + 1

    @property
    def nginx(self) -> int:
        return self.page + 2

    @property
    def sprayer(self) -> int:
        return self.page + 3

    @property
    def replicas(self) -> list[int]:
        """UDP, of trickles-serve."""
        return [self.page + 4 + number for number in range(REPLICAS)]

    @property
    def uvicorn(self) -> list[int]:
        return [self.page + 4 + REPLICAS + number for number in range(REPLICAS)]

    def check(self) -> None:
        """Raises DemoError for one that is taken."""
        tcp = {self.page: "page", self.gateway: "gateway", self.nginx: "nginx"}
        tcp |= dict.fromkeys(self.uvicorn, "uvicorn")
        udp = {self.sprayer: "sprayer"} | dict.fromkeys(self.replicas, "trickles-serve")
        for kind, name, ports in (
            (socket.SOCK_STREAM, "TCP", tcp),
            (socket.SOCK_DGRAM, "UDP", udp),
        ):
            for port, what in ports.items():
                _check(kind, port, f"{name} port {port}, for {what},")


def _check(kind: int, port: int, what: str) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            sock.bind((HOST, port))
        except OSError as error:
            hint = f"stop what has it, or choose {PORTS} others with --port"
            raise DemoError(f"{what} cannot be had: {error.strerror}; {hint}") from None


class Half:
    """Servers that can be killed one by one, and the process before them."""

    def __init__(
        self, front: Process, port: int, replicas: list[Process], ports: list[int]
    ) -> None:
        """port: of `front`, over TCP. ports: of the replicas, in order."""
        self.front = front
        self.base = f"http://{HOST}:{port}"
        """URL of the application, for browsers, without a slash at its end."""
        self.replicas = replicas
        self.upstreams = [f"{HOST}:{port}" for port in ports]

    @property
    def processes(self) -> list[Process]:
        return [self.front, *self.replicas]


def trickles(ports: Ports, folder: Path) -> Half:
    """One secret and one store: any of them can answer any datagram."""
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    shared = ["--secret-file", str(secret), "--store", f"dir:{folder / 'store'}"]
    serve = [sys.executable, "-m", "trickles_web.cli.serve", APP, "--no-access-log", *shared]
    replicas = [
        Process(f"trickles-{number}", [*serve, "--port", str(port)], folder, "running on trickles:")
        for number, port in enumerate(ports.replicas, 1)
    ]
    where = ["--listen", f"{HOST}:{ports.gateway}", f"trickles://{HOST}:{ports.sprayer}"]
    gateway = [sys.executable, "-m", "trickles_web.cli.gateway", *where]
    front = Process("gateway", gateway, folder, " -> trickles:")
    return Half(front, ports.gateway, replicas, ports.replicas)


def uvicorn(ports: Ports, folder: Path, rate: int) -> Half | None:
    """rate: bytes a second for each client. None: there is no nginx."""
    if shutil.which("nginx") is None:
        return None
    serve = [sys.executable, "-m", "uvicorn", APP, "--no-access-log"]
    replicas = [
        Process(f"uvicorn-{number}", [*serve, "--port", str(port)], folder, "Uvicorn running on")
        for number, port in enumerate(ports.uvicorn, 1)
    ]
    configuration = folder / "nginx.conf"
    servers = "\n        ".join(
        f"server {HOST}:{port} fail_timeout={REST_S:g}s;" for port in ports.uvicorn
    )
    text = NGINX.substitute(port=ports.nginx, servers=servers, rate=rate)
    configuration.write_text(text, encoding="utf-8")
    words = ["nginx", "-p", str(folder), "-c", str(configuration)]
    # Its own children end with it if it is told to, but not if it is killed.
    front = Process("nginx", words, folder, "start worker process", signal.SIGTERM)
    return Half(front, ports.nginx, replicas, ports.uvicorn)
