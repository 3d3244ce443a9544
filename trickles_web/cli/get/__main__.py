from __future__ import annotations

import sys

from trickles_web.cli.get.command import main

if __name__ == "__main__":
    sys.exit(main())
