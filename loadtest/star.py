"""One namespace with links to several others, each as fast as the kernel's token bucket lets it be.

For what needs many links at once: they cost no processor, as emulated ones do, but have no delay
other than that of their queue.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.link import do

BURST_BYTES = 70_000
"""A segmented send in one piece, as a device with offloads takes it."""


@dataclass(frozen=True, slots=True)
class Ray:
    """Names of the namespaces, and the far one's address. The client's is the near one."""

    near: str
    far: str
    address: str


def missing() -> str:
    """What this machine lacks; "" if nothing."""
    if os.geteuid():
        return "root, to make network namespaces"
    return ", ".join(tool for tool in ("ip", "tc") if shutil.which(tool) is None)


@contextlib.contextmanager
def star(count: int, mbit: float, queue_ms: float) -> Iterator[list[Ray]]:
    """So many links of `mbit` each way, with a drop-tail queue that holds `queue_ms` of it.

    Raises RuntimeError for what this machine lacks or refuses.
    """
    lack = missing()
    if lack:
        raise RuntimeError(f"links with a rate need {lack}")
    base = f"trickles-{os.getpid()}"
    near = f"{base}-near"
    rays = [Ray(near, f"{base}-far{n}", f"10.88.{n}.2") for n in range(count)]
    with contextlib.ExitStack() as stack:
        for name in (near, *(ray.far for ray in rays)):
            do("ip", "netns", "add", name)
            stack.callback(do, "ip", "netns", "delete", name)
            do("ip", "-n", name, "link", "set", "lo", "up")
        for number, ray in enumerate(rays):
            pair = ("ip", "-n", near, "link", "add", f"to{number}", "type", "veth")
            do(*pair, "peer", "name", "to", "netns", ray.far)
            for name, device, host in ((near, f"to{number}", 1), (ray.far, "to", 2)):
                address = f"10.88.{number}.{host}/24"
                do("ip", "-n", name, "address", "add", address, "dev", device)
                do("ip", "-n", name, "link", "set", device, "up")
                rate = ("rate", f"{mbit}mbit", "burst", f"{BURST_BYTES}")
                queue = ("latency", f"{queue_ms}ms")
                do("tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf", *rate, *queue)
        yield rays
