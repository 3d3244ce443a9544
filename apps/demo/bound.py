"""Run a command that dies with the process that starts it, even if that one is SIGKILLed.

    python -m apps.demo.bound SIGNAL COMMAND [ARGUMENT...]

The command keeps the process id, and is sent the signal when its parent dies. Here and not between
fork and exec, where Python must not run if there are threads.
"""

from __future__ import annotations

import ctypes
import os
import sys

from trickles_web.net.children import PR_SET_PDEATHSIG

PARENT = "TRICKLES_DEMO_PARENT"
"""Variable with its process id: who died before the kernel was told is noticed by that."""


def main() -> None:
    number, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == int(os.environ.pop(PARENT)):
        os.execvp(command[0], command)


if __name__ == "__main__":
    main()
