"""What a process knows of an exchange since it asked Redis."""

from __future__ import annotations

from typing import Any


class Known:
    """What Redis said of one exchange, at wall-clock ms `at`; None of it if it did not answer."""

    __slots__ = (
        "announced",
        "appended",
        "at",
        "claimed",
        "digest",
        "failed",
        "owner",
        "response",
        "told",
    )

    def __init__(self, at: int, failed: bool = False) -> None:
        self.at = at
        self.failed = failed
        self.digest = b""
        self.claimed = 0
        self.owner = 0
        """The claimant, while it lives."""
        self.announced = 0
        self.response: bytes | None = None
        self.appended = b""
        """The bytes of the response, where they are apart from it."""
        self.told = False
        """Redis was told something of it from here, or had something to tell."""

    @classmethod
    def told_by(cls, answer: Any, now: int) -> Known:
        """answer: of the script FIND. now: wall-clock ms."""
        digest, owner, alive, announced, announcer_alive, response, claimed, appended = answer
        known = cls(now)
        known.digest, known.claimed = digest or b"", int(claimed or 0)
        known.told = bool(digest or announced or response)
        known.owner = int(owner, 16) if owner and alive else 0
        known.announced = int(announced, 16) if announced and announcer_alive else 0
        known.response, known.appended = response, appended or b""
        return known
