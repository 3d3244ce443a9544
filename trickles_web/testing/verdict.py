"""Why a test failed: what a second run of it, with one replica that is never killed, tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trickles_web.testing.story import Story

ONE_PROCESS = """\
The test passes with one replica that is never killed. So some request needed what only another
process knew, or one that was killed: a global variable, a cache, a session in memory. Keep it where
all replicas find it (a database, a shared cache), or at the client (a signed cookie)."""

SENT_AGAIN = """\
The test passes with one replica that is never killed. Here a process was killed as it answered, so
nobody could know whether the request was executed, and it was sent again: {requests}.
What it does then happens twice. Let the client send a key with it by which the application knows
the repeat, or look what became of the first one before it sends the second."""

NOT_THE_REPLICAS = """\
The test fails with one replica that is never killed, too: look for the reason elsewhere."""

NOT_RUN_AGAIN = "This was one replica that is never killed: look for the reason elsewhere."


@dataclass(frozen=True)
class Verdict:
    """`title` is empty if the replicas are not to blame."""

    title: str
    text: str


def verdict(stories: Sequence[Story], passes_alone: bool | None) -> Verdict:
    """stories: of the run that failed. passes_alone: of the second run, None if there was none."""
    if passes_alone is None:
        return Verdict("", NOT_RUN_AGAIN)
    if not passes_alone:
        return Verdict("", NOT_THE_REPLICAS)
    repeats = [asked for story in stories for asked in story.repeats()]
    if repeats:
        requests = ", ".join(
            f"{asked.method} {asked.target} (request {asked.number}, after {asked.repeats})"
            for asked in repeats
        )
        return Verdict("unsafe request sent again", SENT_AGAIN.format(requests=requests))
    return Verdict("state kept in one process", ONE_PROCESS)


def account(stories: Sequence[Story]) -> str:
    """What happened in the run that failed."""
    parts = []
    for story in stories:
        parts.append(
            f"Requests, and which replica the application was called at:\n{story.served()}"
        )
        parts.append(f"Last packets, by virtual time:\n{story.told()}")
        parts.append(f"The same network again: --trickles-seed {story.seed}")
    return "\n\n".join(parts)
