"""The layers: a lower one never imports a higher one, and the protocol core stays sans-IO.

Every import statement counts, wherever it stands: in a function, or under TYPE_CHECKING, because a
type that only a higher layer has is a dependency on that layer all the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

PACKAGE = "trickles_web"
ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE_LINES = 420

RANKS = {
    "errors": 1,
    "config": 1,
    "transport": 2,
    "credentials": 3,
    "state": 3,
    "trace": 3,
    "http": 4,
    "trains": 4,
    "socket_options": 4,
    "net": 5,
    "client": 5,
    "listening": 6,
    "resumable": 6,
    "testing": 6,
    "gateway": 7,
    "proxy": 7,
    "cli": 8,
    "__main__": 9,
}
"""First name below the package -> rank; peers of one rank are strangers, but for errors and config.
`__init__.py` itself may import nothing of ours: whatever it loaded, everything would load."""

NOT_DESPITE_RANK = {"client": {"state", "http"}}
"""A client holds hard state and parses no HTTP: it stands on the transport alone."""

SANS_IO = {"asyncio", "socket", "time", "random", "os"}
"""What the transport may not import: sockets, clocks, randomness and keys are arguments there."""
SANS_IO_COUSINS = {
    "datetime",
    "secrets",
    "select",
    "selectors",
    "signal",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "multiprocessing",
    "uvloop",
}
"""Other doors to the same things."""

ASYNCIO_IN_HTTP = {
    "asgi.py",
    "calls.py",
    "digests.py",
    "lifespan.py",
    "run.py",
    "websocket.py",
    "wsgi.py",
}
"""The ASGI host, and hashing in threads; parsers, framing and progress are asyncio-free."""


def imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Absolute dotted names of all that a module of `package` imports, `from` targets included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            # `from trickles_web import net` imports a module as much as `import trickles_web.net`.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def forbidden_outside(path: PurePosixPath) -> set[str]:
    """Top-level modules, not ours, that a file may not import; `path` as in `violations`."""
    match path.parts[0]:
        case "transport":
            return SANS_IO | SANS_IO_COUSINS
        case "http" if path.name not in ASYNCIO_IN_HTTP:
            return {"asyncio", "socket"}
        case _:
            return set()


def violations(path: PurePosixPath, source: str) -> list[str]:
    """What is wrong with the imports of one file; `path` is relative to the package's folder."""
    home = path.parts[0].removesuffix(".py")
    if home != "__init__" and home not in RANKS:
        return [f"{path}: `{home}` has no rank yet: give it one in RANKS"]
    package = ".".join([PACKAGE, *path.parent.parts])
    forbidden = forbidden_outside(path)
    found = []
    for name in imported_names(ast.parse(source), package):
        top, _, below = name.partition(".")
        if top in forbidden:
            found.append(f"{path} may not import {top}")
        if top != PACKAGE:
            continue
        target = below.split(".")[0]
        if home == "__init__":
            found.append(f"{path} may not import {name}: everything would load it")
        elif target in RANKS and target != home:
            allowed = RANKS[target] < RANKS[home] or RANKS[target] == RANKS[home] == 1
            if not allowed or target in NOT_DESPITE_RANK.get(home, ()):
                found.append(f"{path} may not import {name}")
    return found


FILES = sorted((ROOT / PACKAGE).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_point_downwards(file: Path) -> None:
    path = PurePosixPath(file.relative_to(ROOT / PACKAGE).as_posix())
    assert violations(path, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_stay_readable(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE_LINES


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("transport/wire.py", "import socket"),
        ("transport/wire.py", "import os.path"),
        ("transport/wire.py", "from time import monotonic"),
        ("transport/wire.py", "from trickles_web.state import store"),
        ("transport/wire.py", "from trickles_web import state"),
        ("transport/wire.py", "from ..net import server"),
        ("transport/wire.py", "from .. import net"),
        ("transport/wire.py", "def f():\n    from trickles_web.net import server"),
        ("transport/deep/er.py", "from ...net import server"),
        ("errors.py", "import trickles_web.transport.wire"),
        ("state/memory.py", "if TYPE_CHECKING:\n    from trickles_web.http import service"),
        ("http/service.py", "from trickles_web.net.server import Server"),
        ("http/parser.py", "import asyncio"),
        ("net/server.py", "import trickles_web.client"),
        ("client/driver.py", "import trickles_web.net"),
        ("client/driver.py", "import trickles_web.http.parser"),
        ("client/driver.py", "import trickles_web.state"),
        ("gateway.py", "from trickles_web.cli import serve"),
        ("__init__.py", "from trickles_web.client import open_connection"),
        ("novelty.py", ""),
    ],
)
def test_the_checker_sees_violations(path: str, source: str) -> None:
    assert violations(PurePosixPath(path), source) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("transport/wire.py", "import struct\nfrom trickles_web.errors import WireError"),
        ("transport/server.py", "from . import wire\nfrom .epochs import window"),
        ("config.py", "from trickles_web.errors import UsageError"),
        ("http/asgi.py", "import asyncio\nfrom trickles_web.state.store import Store"),
        ("http/service.py", "from ..transport.server import Redeemed"),
        ("net/server.py", "import socket\nfrom trickles_web.http.service import Service"),
        ("client/driver.py", "import asyncio\nfrom trickles_web.transport.flow import Flow"),
        ("cli/gateway.py", "from trickles_web.gateway import Gateway"),
        ("cli/get.py", "from trickles_web import __version__"),
    ],
)
def test_the_checker_lets_good_imports_pass(path: str, source: str) -> None:
    assert violations(PurePosixPath(path), source) == []


LOAD_TRANSPORT = """
import importlib, pkgutil, sys
import trickles_web.transport as transport
for module in pkgutil.walk_packages(transport.__path__, "trickles_web.transport."):
    importlib.import_module(module.name)
print(*sorted(sys.modules))
"""


def test_the_transport_loads_no_socket() -> None:
    """Checked in a new process, for what third parties bring along is loaded too."""
    output = subprocess.run(
        [sys.executable, "-c", LOAD_TRANSPORT], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    loaded = set(output.split())
    assert "trickles_web.transport" in loaded
    assert loaded.isdisjoint({"asyncio", "socket", "_socket", "select", "selectors", "ssl"})
    ours = {name.split(".")[1] for name in loaded if name.startswith(f"{PACKAGE}.")}
    assert ours <= {"transport", "errors", "config"}
