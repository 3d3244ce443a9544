"""Whole captures: their flows, and the stories of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trickles_web.trace.marks import Marks
from trickles_web.trace.rows import Row
from trickles_web.trace.seen import Seen, decoded
from trickles_web.trace.story import Story
from trickles_web.trace.totals import end, rate
from trickles_web.transport import wire

MOST_FLOWS = 4096
"""Of a capture: further ones are counted."""


@dataclass
class Stories:
    """Of the flows of one capture; `left` datagrams were of flows beyond the first MOST_FLOWS."""

    began: float = 0.0
    flows: dict[bytes, Story] = field(default_factory=dict)
    left: int = 0

    def summary(self, story: Story) -> list[str]:
        title = f"flow {story.flow.hex()}  {end(story.client)} -> {end(story.server)}"
        return [title, *story.totals.lines()]

    def table(self) -> list[str]:
        """A line for each flow."""
        lines = [
            f"{'flow':16}  {'client':>21}  {'server':>21}  {'at s':>9}  {'for s':>9}  "
            f"{'response bytes':>14}  {'rate':>14}  {'reported losses':>15}"
        ]
        for flow, story in self.flows.items():
            totals = story.totals
            lines.append(
                f"{flow.hex()}  {end(story.client):>21}  {end(story.server):>21}  "
                f"{totals.began - self.began:9.3f}  {totals.seconds:9.3f}  {totals.fresh:14,}  "
                f"{rate(totals.fresh, totals.seconds):>14}  {totals.reports:15,}"
            )
        if self.left:
            lines.append(f"and {self.left:,} datagrams of further flows")
        return lines


def tell(
    seen: Iterable[Seen],
    stories: Stories,
    write: Callable[[Row], None],
    *,
    flow: str = "",
    packets: bool = False,
    marks: Marks | None = None,
) -> None:
    """Fills `stories`, and writes their rows. flow: only those whose id begins like this, in hex.

    Raises CaptureError where reading does; what was told before is right, and whole.
    """
    try:
        for one in seen:
            message = decoded(one.datagram)
            if message is None:
                continue
            name = wire.flow_of(one.datagram)
            if flow and not name.hex().startswith(flow):
                continue
            stories.began = stories.began or one.at
            story = stories.flows.get(name)
            if story is None:
                if len(stories.flows) >= MOST_FLOWS:
                    stories.left += 1
                    continue
                story = Story(one, write, packets=packets, marks=marks)
                stories.flows[name] = story
            story.take(one, message)
    finally:
        for story in stories.flows.values():
            story.close()
