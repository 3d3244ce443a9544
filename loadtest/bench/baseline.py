"""What counts were compared with, and on what they depend besides this code."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

from loadtest.bench import callgrind
from trickles_web.transport import flow

FILE = Path(__file__).resolve().parent.parent / "baseline.json"
LIBRARIES = ("cryptography", "h11", "httptools", "rbloom")
CPU_FLAGS = {"aes", "avx", "avx2", "bmi2", "pclmulqdq", "sse4_2"}
"""Of what valgrind knows, what libraries look for, to choose among versions of their code."""

Environment = dict[str, str]


@dataclass(frozen=True, slots=True)
class Baseline:
    environment: Environment
    instructions: Mapping[str, float]
    """Of one operation, by path."""

    def write(self, file: Path = FILE) -> None:
        rounded = {path: round(count) for path, count in self.instructions.items()}
        content = {"environment": self.environment, "instructions": rounded}
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(file: Path = FILE) -> Baseline:
    """Raises OSError if there is none."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return Baseline(content["environment"], content["instructions"])


def environment() -> Environment:
    """Whatever executes instructions here that are not this repository's. Raises BenchError."""
    return {
        "python": sys.version,
        "trickles_web": "compiled" if is_compiled() else "Python",
        "machine": platform.machine(),
        "cpu flags": " ".join(sorted(_cpu_flags() & CPU_FLAGS)),
        "libc": " ".join(platform.libc_ver()),
        "openssl": backend.openssl_version_text(),
        "valgrind": callgrind.version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def is_compiled() -> bool:
    """Are the hot modules C extensions here?"""
    return not str(flow.__file__).endswith(".py")


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def differences(now: Environment, then: Environment) -> list[str]:
    """What is not as it was, a line each."""
    return [
        f"{name} is {now.get(name, 'not here')}, was {then.get(name, 'not here')}"
        for name in {**now, **then}
        if now.get(name) != then.get(name)
    ]
