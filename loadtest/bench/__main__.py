"""The command line: `python -m loadtest.bench`, or `make bench`."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from loadtest.bench import baseline, callgrind
from loadtest.bench.baseline import Baseline
from loadtest.bench.callgrind import BenchError
from loadtest.report import Row, table

ROOT = Path(__file__).resolve().parent.parent.parent
TOLERANCE = 0.01
"""More than this is a change of the code: see docs/testing.md for what the same code differs by."""


def main(argv: list[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    try:
        return _bench(given)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description="Counts the instructions of the hot paths; compares them with the baseline.",
        epilog=f"Exit code 1: a path takes over {TOLERANCE:.0%} more. 2: nothing was compared.",
    )
    parser.add_argument("--base", metavar="REVISION", help="compare with this one, measured now")
    parser.add_argument("--record", action="store_true", help="make this the baseline")
    parser.add_argument(
        "--only", default="", metavar="PART", help="paths that have this in their name"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave callgrind's files there, for annotation"
    )
    return parser


def _bench(given: argparse.Namespace) -> int:
    environment = baseline.environment()
    if given.record:
        return _record(given, environment)
    base = given.base or _base_instead(environment)
    if base and baseline.is_compiled():
        raise BenchError("a revision is measured as pure Python, and this is compiled: make clean")
    now = _instructions(ROOT, given.only, given.keep)
    then = _instructions_of(base, given.only) if base else baseline.read().instructions
    rows = compare(now, then, callgrind.microseconds(ROOT, given.only))
    print("\n".join(table(rows)))
    slower = [row["path"] for row in rows if row["verdict"] == SLOWER]
    print(f"over {TOLERANCE:.0%} more than before: {', '.join(slower) or 'none'}")
    return 1 if slower else 0


def _record(given: argparse.Namespace, environment: baseline.Environment) -> int:
    if given.only or given.base:
        raise BenchError("--record is for all paths of this checkout: not with --only or --base")
    Baseline(environment, _instructions(ROOT, "", given.keep)).write()
    print(f"written to {baseline.FILE.relative_to(ROOT)}; git diff shows what changed")
    return 0


def _base_instead(environment: baseline.Environment) -> str:
    """The revision to compare with where the baseline says nothing; "" where it does."""
    try:
        differences = baseline.differences(environment, baseline.read().environment)
    except FileNotFoundError:
        raise BenchError("there is no baseline; give --base REVISION, or --record one") from None
    if not differences:
        return ""
    revision = _git("log", "-1", "--format=%H", "--", str(baseline.FILE))
    print("The baseline was counted elsewhere, so that counts cannot be compared:")
    print("\n".join(f"  {difference}" for difference in differences))
    print(
        f"Compared with the revision that it was counted for instead, {revision[:12]}, counted now."
    )
    return revision


def _instructions_of(revision: str, only: str) -> dict[str, float]:
    with checkout(revision) as source:
        return _instructions(source, only, None)


def _instructions(source: Path, only: str, keep: Path | None) -> dict[str, float]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return callgrind.instructions(source, keep.resolve(), only)
    with tempfile.TemporaryDirectory(prefix="trickles-bench-") as outputs:
        return callgrind.instructions(source, Path(outputs), only)


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A working tree of that revision, for a while. Raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="trickles-bench-") as parent:
        folder = Path(parent, "base")
        _git("worktree", "add", "--detach", str(folder), revision)
        try:
            if not (folder / "loadtest/bench/run.py").exists():
                raise BenchError(f"{revision} is from before the hot paths were written down")
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*words: str) -> str:
    done = subprocess.run(("git", "-C", str(ROOT), *words), capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


SLOWER = "SLOWER"


def compare(
    now: Mapping[str, float], then: Mapping[str, float], seconds: Mapping[str, float]
) -> list[Row]:
    """A row for each path. `seconds`: CPU microseconds of an operation, told but not judged."""
    rows = []
    for path, count in now.items():
        before = then.get(path)
        ratio = None if before is None else count / before
        rows.append(
            {
                "path": path,
                "instructions": round(count),
                "before": "-" if before is None else round(before),
                "ratio": "-" if ratio is None else f"{ratio:.3f}",
                "verdict": judged(ratio),
                "CPU us": seconds[path],
            }
        )
    return rows


def judged(ratio: float | None) -> str:
    if ratio is None:
        return "new"
    if ratio > 1 + TOLERANCE:
        return SLOWER
    return "faster" if ratio < 1 - TOLERANCE else "same"


if __name__ == "__main__":
    sys.exit(main())
