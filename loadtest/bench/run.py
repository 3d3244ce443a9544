"""Runs the hot paths, each in a process forked from this one; a line of JSON for each.

python -m loadtest.bench.run marks [PART]   under callgrind: {"path", "pid", "operations"}
python -m loadtest.bench.run time [PART]    natively:        {"path", "microseconds"}, of CPU time

PART: only those paths that have it in their name.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable

# Before anything of ours is imported: whatever looks at the clock must find the same in each run.
time.monotonic = itertools.repeat(1000.0).__next__

from loadtest.bench.meter import Marks, Stopwatch  # noqa: E402
from loadtest.bench.paths import PATHS, Measure  # noqa: E402

COUNT = 200
"""Operations; more would only take longer."""
TIMED_COUNT = 500
REPETITIONS = 5


def counted(measure: Measure) -> dict[str, float]:
    return {"pid": os.getpid(), "operations": measure(Marks(), COUNT)}


def timed(measure: Measure) -> dict[str, float]:
    """The least of several: what other processes did to the caches only ever adds."""
    found = []
    for _ in range(REPETITIONS):
        watch = Stopwatch()
        found.append(1e6 / measure(watch, TIMED_COUNT) * watch.seconds)
    return {"microseconds": min(found)}


def tell(path: str, how: Callable[[Measure], dict[str, float]], measure: Measure) -> None:
    print(json.dumps({"path": path} | how(measure)))


def apart(work: Callable[[], None]) -> int:
    """Do it in a process of its own, so that no path sees what another one left; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def main(mode: str, part: str = "") -> int:
    how = {"marks": counted, "time": timed}[mode]
    for path, measure in PATHS.items():
        if part in path:
            code = apart(functools.partial(tell, path, how, measure))
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
