"""What holds for all tests."""

from __future__ import annotations

import contextlib
import signal
import socket
import tempfile
from collections.abc import Iterator

import hypothesis  # noqa: F401  (before trio, which registers with it: it warns if it comes later)
import pytest


def pytest_configure() -> None:
    """Whoever runs the tests in a shell's background has SIGINT ignored, and every process that
    they start would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def run_directories() -> Iterator[None]:
    """Servers keep soft state here, not in /dev/shm; processes that tests start inherit this.

    Directly below the folder of temporary files, because the path of a socket must be short.
    """
    with (
        tempfile.TemporaryDirectory(prefix="trickles-tests-", ignore_cleanup_errors=True) as path,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("RUNTIME_DIRECTORY", raising=False)
        patch.setenv("XDG_RUNTIME_DIR", path)
        yield


@pytest.fixture
def absent_port() -> Iterator[int]:
    """A UDP port on 127.0.0.1 where nobody answers, and where nobody else can bind meanwhile.

    Bound, and connected to a third party: datagrams of others are refused with ICMP.
    """
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        other.bind(("127.0.0.1", 0))
        sock.bind(("127.0.0.1", 0))
        sock.connect(other.getsockname())
        yield sock.getsockname()[1]
