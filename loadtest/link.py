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


def missing() -> str:
    """What this machine lacks for a link; "" if nothing."""
    if os.geteuid():
        return "root, to make network namespaces"
    tools = [tool for tool in ("ip", "gcc", "sysctl") if shutil.which(tool) is None]
    if tools:
        return ", ".join(tools)
    return "" if Path("/dev/net/tun").exists() else "/dev/net/tun"


def do(*command: str) -> None:
    """Run a command. Raises RuntimeError with what it says, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def link(shape: Shape) -> Iterator[Link]:
    """Namespaces with addresses NEAR_ADDRESS and FAR_ADDRESS; TCP in both is Reno.

    Raises RuntimeError for what this machine lacks or refuses.
    """
    lack = missing()
    if lack:
        raise RuntimeError(f"an emulated link needs {lack}")
    names = [f"trickles-{os.getpid()}-{side}" for side in ("near", "far")]
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="trickles-link-"))
        emulator = f"{directory}/link_emulator"
        do("gcc", "-O2", "-o", emulator, str(SOURCE))
        for name in names:
            do("ip", "netns", "add", name)
            stack.callback(do, "ip", "netns", "delete", name)
        pid = stack.enter_context(_emulating(emulator, names, shape))
        for name, address in zip(names, (NEAR_ADDRESS, FAR_ADDRESS), strict=True):
            do("ip", "-n", name, "address", "add", f"{address}/24", "dev", "em0")
            # The queue is the emulator's: its device holds what comes while it is not scheduled.
            do("ip", "-n", name, "link", "set", "em0", "txqueuelen", "10000", "up")
            do("ip", "-n", name, "link", "set", "lo", "up")
            # A connection learns nothing from the last one.
            do("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
        made = Link(names[0], names[1], shape, pid)
        use_congestion_control(made, "reno")
        yield made


def use_congestion_control(between: Link, name: str) -> None:
    """Of TCP connections from now on: by routes, for a namespace's sysctl does not take all."""
    for side, address in ((between.near, NEAR_ADDRESS), (between.far, FAR_ADDRESS)):
        route = ("10.88.0.0/24", "dev", "em0", "src", address, "congctl", name)
        do("ip", "-n", side, "route", "replace", *route)


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
