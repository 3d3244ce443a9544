"""What inputs reach of the modules that a target is about, as JSON:

    python -m tests.fuzz.covered TARGET FOLDER

{module: [lines run, lines, branches taken, branches]}. Needs coverage.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path

import coverage


def main(name: str, folder: str) -> dict[str, list[int]]:
    measuring = coverage.Coverage(data_file=None, branch=True, source_pkgs=["trickles_web"])
    measuring.start()  # before anything of the package is imported: definitions are lines, too
    from tests.fuzz.targets import PACKAGE, TARGETS

    target = TARGETS[name]
    for file in Path(folder).iterdir():
        target.run(file.read_bytes())
    measuring.stop()
    wanted = {str(PACKAGE / module): module for module in target.modules}
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        measuring.json_report(morfs=list(wanted), outfile=report.name)
        files = json.load(report)["files"]
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {
        wanted[str(Path(file).resolve())]: [found["summary"][name] for name in names]
        for file, found in files.items()
    }


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(main(*sys.argv[1:])))
