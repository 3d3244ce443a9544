"""An emulated link between two network namespaces, made for one scenario and deleted after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("link_emulator.c")
NEAR_ADDRESS, FAR_ADDRESS = "10.88.0.1", "10.88.0.2"
READY_S = 10.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Of each direction."""

    mbit: float = 100.0
    delay_ms: float = 10.0
    """One way."""
    loss: float = 0.0
    """Share of packets, independent of each other."""
    queue_bytes: int = 250_000
    """Drop-tail; the default is what a round trip of the default rate holds."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Link:
    """Names of the namespaces. The client's is the near one."""

    near: str
    far: str
    shape: Shape
    emulator: int
    """Process id of what carries the packets."""
    far_address: str = FAR_ADDRESS


def missing() -> str:
    """What this machine lacks for a link; "" if nothing."""
    if os.geteuid():
        return "root, to make network namespaces"
    tools = [tool for tool in ("ip", "gcc", "sysctl") if shutil.which(tool) is None]
    if tools:
        return ", ".join(tools)
    return "" if Path("/dev/net/tun").exists() else "/dev/net/tun"


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def link(shape: Shape) -> Iterator[Link]:
    """Namespaces with addresses NEAR_ADDRESS and FAR_ADDRESS; TCP in both is Reno.

    Raises RuntimeError for what this machine lacks or refuses.
    """
    with links(shape, 1) as [made]:
        use_congestion_control(made, "reno")
        yield made


@contextlib.contextmanager
def links(shape: Shape, count: int) -> Iterator[list[Link]]:
    """As many links, each of this shape, from one namespace to others. Raises RuntimeError."""
    lack = missing()
    if lack:
        raise RuntimeError(f"an emulated link needs {lack}")
    near, *fars = [
        f"trickles-{os.getpid()}-{side}" for side in ("near", *(f"far{n}" for n in range(count)))
    ]
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="trickles-link-"))
        emulator = f"{directory}/link_emulator"
        _do("gcc", "-O2", "-o", emulator, str(SOURCE))
        for name in (near, *fars):
            _do("ip", "netns", "add", name)
            stack.callback(_do, "ip", "netns", "delete", name)
            _do("ip", "-n", name, "link", "set", "lo", "up")
            # A connection learns nothing from the last one.
            _do("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
        made = []
        for number, far in enumerate(fars):
            pid = stack.enter_context(_emulating(emulator, [near, far], shape))
            # An emulator's devices are both em0; the next one's in the same namespace is, too.
            device = f"em{number + 1}" if count > 1 else "em0"
            subnet = f"10.{88 + number}.0"
            if count > 1:
                _do("ip", "-n", near, "link", "set", "em0", "name", device)
            for name, host, dev in ((near, 1, device), (far, 2, "em0")):
                _do("ip", "-n", name, "address", "add", f"{subnet}.{host}/24", "dev", dev)
                # The queue is the emulator's: its device holds what comes before it is scheduled.
                _do("ip", "-n", name, "link", "set", dev, "txqueuelen", "10000", "up")
            made.append(Link(near, far, shape, pid, f"{subnet}.2"))
        yield made


def use_congestion_control(between: Link, name: str) -> None:
    """Of TCP connections from now on: by routes, for a namespace's sysctl does not take all."""
    for side, address in ((between.near, NEAR_ADDRESS), (between.far, FAR_ADDRESS)):
        route = ("10.88.0.0/24", "dev", "em0", "src", address, "congctl", name)
        _do("ip", "-n", side, "route", "replace", *route)


@contextlib.contextmanager
def _emulating(emulator: str, names: list[str], shape: Shape) -> Iterator[int]:
    """Its process id."""
    arguments = [shape.mbit, shape.delay_ms, shape.loss, shape.queue_bytes, shape.seed]
    process = subprocess.Popen(
        [emulator, *names, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        deadline = time.monotonic() + READY_S
        while not process.stdout.read():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the link emulator does not start")
            time.sleep(0.01)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
