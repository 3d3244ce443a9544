"""One server process for each application, for all tests of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.net.processes import Running, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts `trickles-serve ARGUMENTS`, or gives the one that runs with these arguments already.

    At the end each must end in order, without a traceback but those of `/broken`, and no warning.
    """
    with contextlib.ExitStack() as stack:
        running: dict[tuple[str, ...], Running] = {}

        def serve(*arguments: str) -> Running:
            if arguments not in running:
                folder: Path = tmp_path_factory.mktemp("server")
                server = stack.enter_context(serving(folder, *arguments, "--port", "0"))
                running[arguments] = server
            return running[arguments]

        yield serve
        for server in running.values():
            assert server.end() == 0
            tracebacks = server.stderr.count("Traceback (most recent call last)")
            assert tracebacks == server.stderr.count("LookupError: a broken "), server.stderr
            assert "Warning" not in server.stderr
