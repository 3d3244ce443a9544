"""Scenario: a coverage-guided search for bytes that break a decoder, a server or a client.

The targets, and what is held against each, are in `tests.fuzz`; beside them stand streams of
requests that other servers may read otherwise (`tests.differential.streams`), the nonces of seals
in many processes (`tests.net.sealing`), and private datagrams that are changed on their way
(`tests.sim.tampering`). All of these need the packages of the tests, too.
What reaches new code is kept with

    python -m tests.fuzz.keep TARGET FOLDER

of the folder that the environment's FUZZ_FOLDER names, if it is set.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.report import Options, Report

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

QUICK_SHARE = 100
"""A quick search is so many times shorter."""
LONGEST_INPUT_S = 20
"""An input that takes longer counts as found."""
FOLDER_VARIABLE = "FUZZ_FOLDER"
STREAMS = 5_000
SEALING = (10, 3, 20_000)
"""Starts, children forked from each, and seals in a row: a million in all."""
FLIPPED = 100_000
"""Private datagrams with flipped bits."""
_NEEDED = ("atheris", "coverage", "hypothesis", "pytest", "uvicorn")
_DONE = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)
_LAST_FRAMES = re.compile(r"=== Uncaught Python exception: ===\n(.*?)\n\n", re.DOTALL)


def run(options: Options) -> Report:
    report = Report()
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        what = f"{', '.join(missing)} not installed: pip install 'trickles-web[dev,loadtest]'"
        report.check(False, f"{what} (atheris: on Linux)")
        return report
    from tests.fuzz import corpora
    from tests.fuzz.targets import TARGETS

    _compare(report, options)
    _seal(report)
    _tamper(report, options)
    with _folder() as folder:
        for name, target in TARGETS.items():
            (inputs := folder / name).mkdir(exist_ok=True)
            corpora.unpack(name, inputs)
            _search(report, name, target, inputs, options)
    return report


def _compare(report: Report, options: Options) -> None:
    """h11 and httptools here, and uvicorn with either: what each takes for which requests."""
    from tests.differential.streams import CLASSICS, compare, drawn, servers, table

    draw = random.Random(options.seed)
    count = STREAMS // (QUICK_SHARE if options.quick else 1)
    streams = [*CLASSICS.values(), *(drawn(draw) for _ in range(count))]
    with tempfile.TemporaryDirectory() as directory, servers(Path(directory)) as ports:
        compared = compare(ports, streams)
    wrong = [one for one in compared if one.wrong]
    report.attack(
        "request smuggling: h11, httptools, uvicorn",
        len(compared),
        ", ".join(f"{kind} {count}" for kind, count in table(compared).most_common()),
        f"{len(wrong)} DIFFER" if wrong else "no stream is other requests here",
    )
    for one in wrong:
        report.check(False, f"{one.stream!r}: {one.wrong}")


def _seal(report: Report) -> None:
    """Processes that start, seal, fork, and seal on both sides, under one key."""
    from tests.net.sealing import by_keyring, in_a_private_flow, nonces_of_processes

    for what, sealing in (("continuations", by_keyring), ("a private flow", in_a_private_flow)):
        nonces = nonces_of_processes(*SEALING, sealing)
        repeated = len(nonces) - len(set(nonces))
        report.attack(
            f"AEAD nonces of {what}: starts and forks under one key",
            len(nonces),
            f"{SEALING[0]} starts, {SEALING[0] * SEALING[1]} forked; {repeated} repeated",
            "REPEATED" if repeated else "no nonce twice",
        )
        report.check(not repeated, f"{what}: no nonce twice under a key, not {repeated}")


def _tamper(report: Report, options: Options) -> None:
    """Whole private flows, of which each datagram arrives behind others made of it."""
    from tests.sim.tampering import tampered
    from tests.sim.world import Config

    Config.private = True
    done, broken = tampered(FLIPPED // (QUICK_SHARE if options.quick else 1), options.seed)
    report.attack(
        "private datagrams, changed on their way",
        done.total(),
        ", ".join(f"{kind} {count}" for kind, count in done.most_common()),
        "BROKEN" if broken else "no byte changed, no flow ended",
    )
    for one in broken:
        report.check(False, one)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Where inputs are collected."""
    if given := os.environ.get(FOLDER_VARIABLE):
        Path(given).mkdir(parents=True, exist_ok=True)
        yield Path(given)
    else:
        with tempfile.TemporaryDirectory() as own:
            yield Path(own)


def _search(report: Report, name: str, target: Target, inputs: Path, options: Options) -> None:
    wanted = target.runs // (QUICK_SHARE if options.quick else 1)
    command = [
        *(sys.executable, "-m", "tests.fuzz", name, str(inputs), f"-runs={wanted}"),
        *(f"-seed={options.seed}", f"-timeout={LONGEST_INPUT_S}"),
        f"-artifact_prefix={inputs.parent}/{name}-",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    done = _DONE.search(ended.stderr)
    runs = int(done[1]) if done else 0
    what = "inputs" if target.is_decoder else "programs of many datagrams"
    report.attack(
        f"fuzzing: {name.replace('-', ' ')}",
        runs,
        f"{what}; " + _covered(name, inputs),
        "no rule broken" if ended.returncode == 0 else "BROKEN",
    )
    broken = _LAST_FRAMES.search(ended.stderr)
    said = broken[1] if broken else ended.stderr[-2000:]
    report.check(ended.returncode == 0, f"{name}: {said}\n{_found(inputs.parent, name)}")
    report.check(runs >= wanted, f"{name}: {wanted:,} inputs, not {runs:,}")


def _found(folder: Path, name: str) -> str:
    """The inputs that broke a rule, to be repeated."""
    found = sorted(folder.glob(f"{name}-[ct][ri][am]*"))  # crash- and timeout-
    return "; ".join(f"bytes.fromhex({file.read_bytes().hex()!r})" for file in found)


def _covered(name: str, inputs: Path) -> str:
    """Of the modules that it is about, what all inputs together reach."""
    command = [sys.executable, "-m", "tests.fuzz.covered", name, str(inputs)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        return "coverage not measured"
    told = []
    for module, (lines, all_lines, branches, all_branches) in json.loads(ended.stdout).items():
        share = f"{100 * lines / all_lines:.0f}%"
        if all_branches:
            share += f"/{100 * branches / all_branches:.0f}%"
        told.append(f"{Path(module).name} {share}")
    return "lines/branches of " + ", ".join(told)
