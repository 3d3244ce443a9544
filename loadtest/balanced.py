"""Three replicas behind an engine that sprays datagrams, by the very files of `deploy/`.

client  ==link==  balancer  --bridge--  10.0.0.11, .12, .13
(near)            (far), 192.0.2.1, 10.0.0.1
"""

from __future__ import annotations

import contextlib
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest import link as links
from loadtest.link import FAR_ADDRESS, NEAR_ADDRESS, Link, Shape, do
from loadtest.processes import PATIENCE_S, ROOT, Process, Stage

DEPLOY = ROOT / "deploy"
SERVICE, PORT = "192.0.2.1", 8000
HOSTS = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
BALANCER = "10.0.0.1"
PEER_PORT = 8001
NGINX = """\
include /etc/nginx/modules-enabled/*stream*.conf;
error_log {folder}/nginx-errors.log;
pid {folder}/nginx.pid;
worker_processes 1;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
include {file};
"""
MOST_SESSIONS = 20_000
"""Each has a descriptor, of which there may be fewer, and two connections."""


@dataclass(frozen=True, slots=True)
class Balanced:
    """Names of namespaces, and where the service is."""

    client: str
    balancer: str
    replicas: list[str]
    stage: Stage
    store: str
    """URL of a Redis of their own."""

    def datagrams(self) -> list[int]:
        """That each replica has received, those of other replicas among them."""
        return [_datagrams(name) for name in self.replicas]


@dataclass(frozen=True, slots=True)
class Engine:
    """`start(balanced)` has it spray; replicas listen at `listen`, or each at its own address."""

    name: str
    start: Callable[[Balanced], None]
    seen_from: str
    """What replicas see as a client's host."""
    needs: tuple[str, ...] = ()
    """Programs."""
    listen: str = ""

    def missing(self) -> str:
        """What this machine lacks; "" if nothing."""
        lack = links.missing()
        tools = [tool for tool in (*self.needs, "redis-server") if shutil.which(tool) is None]
        if "nginx" in self.needs and not tools and not _nginx_has_stream():
            tools = ["nginx's stream module (apt-get install libnginx-mod-stream)"]
        return lack or ", ".join(tools)


def _nginx(at: Balanced) -> None:
    folder = at.stage.directory
    configuration = folder / "nginx.conf"
    files = min(MOST_SESSIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    configuration.write_text(
        NGINX.format(folder=folder, files=files, connections=2 * files, file=DEPLOY / "nginx.conf")
    )
    words = ("nginx", "-c", str(configuration), "-g", "daemon off;")
    nginx = at.stage.start("nginx", *words, netns=at.balancer)
    _until_bound(nginx, at.balancer)


def _nft(at: Balanced) -> None:
    do("ip", "netns", "exec", at.balancer, "nft", "-f", str(DEPLOY / "spray.nft"))


def _ecmp(at: Balanced) -> None:
    do("ip", "-n", at.balancer, "address", "del", f"{SERVICE}/32", "dev", "lo")
    _set(at.balancer, "net.ipv4.fib_multipath_hash_policy=1")
    do("ip", "-n", at.balancer, "-batch", str(DEPLOY / "ecmp.ip"))
    for name in at.replicas:
        do("ip", "-n", name, "address", "add", f"{SERVICE}/32", "dev", "lo")


ENGINES = (
    Engine("nginx", _nginx, BALANCER, ("nginx",)),
    Engine("nft", _nft, NEAR_ADDRESS, ("nft",)),
)
"""Those that spray."""
ECMP = Engine("ECMP", _ecmp, NEAR_ADDRESS, listen="0.0.0.0")
"""This one keeps a client's port at one replica."""


@contextlib.contextmanager
def balanced(engine: Engine, shape: Shape) -> Iterator[Balanced]:
    """Namespaces and the engine, but no replicas. RuntimeError for what this machine lacks."""
    with links.link(shape) as between, Stage() as stage, contextlib.ExitStack() as stack:
        names = [f"{between.far}{number}" for number in range(len(HOSTS))]
        for name in names:
            do("ip", "netns", "add", name)
            stack.callback(do, "ip", "netns", "delete", name)
        _connect(between, names)
        stage.redis()
        made = Balanced(between.near, between.far, names, stage, stage.redis_url)
        engine.start(made)
        yield made


def _connect(between: Link, replicas: list[str]) -> None:
    near, far = between.near, between.far
    do("ip", "-n", far, "link", "add", "inside", "type", "bridge")
    do("ip", "-n", far, "address", "add", f"{BALANCER}/24", "dev", "inside")
    do("ip", "-n", far, "link", "set", "inside", "up")
    do("ip", "-n", far, "address", "add", f"{SERVICE}/32", "dev", "lo")
    _set(far, "net.ipv4.ip_forward=1")
    for number, (name, host) in enumerate(zip(replicas, HOSTS, strict=True)):
        pair = ("ip", "-n", far, "link", "add", f"to{number}", "type", "veth")
        do(*pair, "peer", "name", "eth0", "netns", name)
        do("ip", "-n", far, "link", "set", f"to{number}", "master", "inside", "up")
        do("ip", "-n", name, "link", "set", "lo", "up")
        do("ip", "-n", name, "address", "add", f"{host}/24", "dev", "eth0")
        do("ip", "-n", name, "link", "set", "eth0", "up")
        do("ip", "-n", name, "route", "add", "default", "via", BALANCER)
    for network in (f"{SERVICE}/32", f"{BALANCER}/24"):
        do("ip", "-n", near, "route", "add", network.replace(".1/24", ".0/24"), "via", FAR_ADDRESS)


def _set(namespace: str, setting: str) -> None:
    do("ip", "netns", "exec", namespace, "sysctl", "-qw", setting)


def _until_bound(nginx: Process, namespace: str) -> None:
    """Its own words come too early."""
    entry = f"{int.from_bytes(map(int, SERVICE.split('.')), sys.byteorder):08X}:{PORT:04X}"
    deadline = time.monotonic() + PATIENCE_S
    while entry not in _read(namespace, "/proc/net/udp"):
        if nginx.popen.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"nginx does not start: {nginx.log}")
        time.sleep(0.01)


def _read(namespace: str, file: str) -> str:
    words = ["ip", "netns", "exec", namespace, "cat", file]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _datagrams(namespace: str) -> int:
    names, values = re.findall(r"^Udp: (.*)$", _read(namespace, "/proc/net/snmp"), re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["InDatagrams"])


def _nginx_has_stream() -> bool:
    told = subprocess.run(["nginx", "-V"], capture_output=True, text=True).stderr
    found = Path("/etc/nginx/modules-enabled").glob("*stream*.conf")
    return bool(re.search(r"--with-stream(\s|$)", told)) or any(found)
