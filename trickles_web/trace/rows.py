"""Lines of a story, and how they look."""

from __future__ import annotations

from typing import NamedTuple

UP, DOWN, NOTE = "->", "<-", "  "
"""To the server, to the client, and what follows from packets but is none."""
HEADING = f"{'ms':>12}      what"


class Row(NamedTuple):
    """`at`: seconds since 1970. `flow`: its id."""

    at: float
    flow: bytes
    mark: str
    what: str
    text: str

    def told(self, began: float) -> str:
        """began: when the trace begins."""
        return f"{(self.at - began) * 1000:12.3f}  {self.mark} {self.what:<10} {self.text}"
