"""Coverage-guided search for an input that breaks a rule:

    python -m tests.fuzz TARGET CORPUS [option of libFuzzer ...]

CORPUS is a folder of inputs, to which what reaches new code is added. An input that breaks a rule
is written to a file, whose name is the last thing said. Needs atheris.
"""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["trickles_web"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    logging.disable()
    name, corpus, *options = sys.argv[1:]
    target = TARGETS[name]
    limit = f"-max_len={target.most_bytes}"
    atheris.Setup([sys.argv[0], limit, corpus, *options], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
