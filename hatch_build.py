"""Compiles the modules that every datagram passes to C extensions, with mypyc, if asked to.

    TRICKLES_COMPILE=1 pip install .        (a C compiler is needed; `make compiled` does it here)

Without the variable the package is pure Python, and does the same. A module that is listed here
keeps to what mypyc can compile: no classes derived from exceptions that add to them, no break out
of `finally`, and what annotations in class bodies name is there at run time. What derives from a
class of a compiled module is compiled too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

PACKAGE = "trickles_web"
COMPILED = {
    "transport": (
        *("asking", "claims", "continuation", "download", "edition", "epochs", "flow", "holding"),
        *("keys", "layout", "line", "nonces", "note", "opener", "order", "origin", "patience"),
        *("presented", "ranges", "reassembly", "redeemed", "replay", "replies", "rtt", "server"),
        *("upload", "wanted"),
    ),
    "transport/private": ("channel", "cover", "flow", "introduction", "ticket"),
    "transport/wire": ("client", "common", "runs", "server", "uploads"),
    "http": (
        *("asgi", "assembly", "blocks", "calls", "finding", "framing", "heads", "names", "parsers"),
        *("pieces", "progress", "proxy_headers", "reader", "receiving", "request", "responses"),
        *("run", "runner", "scope", "service", "telling", "websocket"),
    ),
    "state": ("backing", "directory", "memory", "prefixes", "redis", "shares", "spool"),
    "net": ("endpoint", "pacing", "parking", "udp", "uploads"),
}
"""Modules by folder. Those of one package call each other directly."""

SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
files = sys.argv[1:]
sys.argv = ["setup.py", "build_ext", "--build-lib=build/lib", "--build-temp=build/temp"]
options = ["--config-file=", "--ignore-missing-imports", "--python-version=3.11"]
extensions = mypycify([*options, *files], opt_level="2", debug_level="0", multi_file=True,
                      group_name="trickles_web")
setup(name="trickles-web", packages=[], ext_modules=extensions)
"""


def wanted() -> bool:
    return os.environ.get("TRICKLES_COMPILE", "") not in ("", "0")


class CompiledModules(BuildHookInterface[WheelBuilderConfig]):
    """See the module. An editable installation has the extensions beside their modules."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return ["mypy>=2.4,<3", "setuptools>=80"] if wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._compiles():
            return
        root = Path(self.root)
        files = [
            f"{PACKAGE}/{folder}/{name}.py" for folder in COMPILED for name in COMPILED[folder]
        ]
        subprocess.run([sys.executable, "-c", SETUP, *files], cwd=root, check=True)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version == "editable":
            for old in [*root.glob(f"{PACKAGE}__mypyc.*"), *root.glob(f"{PACKAGE}/**/*.so")]:
                old.unlink()  # its module may be listed no more
            shutil.copytree(root / "build" / "lib", root, dirs_exist_ok=True)
            return
        for made in root.glob("build/lib/**/*.so"):
            build_data["force_include"][str(made)] = made.relative_to(root / "build/lib").as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._compiles():
            shutil.rmtree(Path(self.root) / "build")

    def _compiles(self) -> bool:
        return self.target_name == "wheel" and wanted()
