"""What a client makes of REFUSED: a hint, until it is said again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from trickles_web.errors import FlowError, FlowRefused, OutcomeUnknown, ResponseTruncated
from trickles_web.transport.wire import Code, Refused, echo_of

_PATIENCE = 8
"""Refusals in a row, with nothing good between them, that end the flow: one replica of several may
be wrong, and the next request may reach another."""
_PATIENCE_ELSEWHERE = 24
"""The same where only one server of several can serve the request, and must be hit by chance: that
has the ledger that the request may be in, or the secret that the flow began under."""
_PAUSE = 0.02
"""Seconds, longer by as much with each refusal."""

_TRANSIENT = frozenset({Code.SPENT, Code.CLOSED, Code.CLAIM, Code.PROOF, Code.FUTURE})
"""These concern one claim: the probe timeout goes on from the newest continuation."""


class Verdict(NamedTuple):
    error: FlowError | None = None
    retry_after: float | None = None


_RECENT = 32
"""Datagrams remembered, to know what answers one of them."""


class Refusals:
    """Counts refusals since the last good news."""

    __slots__ = ("_count", "_not_mine", "_recent", "_served")

    def __init__(self) -> None:
        self._count = self._not_mine = 0
        self._served = False
        """Has any server gone on with the flow?"""
        self._recent: deque[bytes] = deque(maxlen=_RECENT)

    def sent(self, datagrams: Sequence[bytes]) -> None:
        self._recent.extend(datagrams)

    def answers(self, echo: bytes) -> bool:
        """Is this the hash of a datagram that was sent lately? Who has not seen it cannot know."""
        return any(echo_of(datagram) == echo for datagram in self._recent)

    def progress(self, *, upload: bool = False) -> None:
        """Good news; of an `upload` it does not tell whether the request can be run."""
        self._count = 0
        self._served = True
        if not upload:
            self._not_mine = 0

    def judge(self, refused: Refused, handed_on: bool, *, claim: bool) -> Verdict:
        """claim: no opener is under way, so it may be one of many claims that is refused."""
        try:
            code = Code(refused.code)
        except ValueError:
            return Verdict()
        if code is Code.TOO_SOON:
            return Verdict(retry_after=refused.retry_after / 1000 + 0.001)
        if code in _TRANSIENT:
            return Verdict()
        if code is Code.CLEARTEXT and not self._served:
            # It is how the service is set up, unless another of its servers has served the flow.
            # Who forges this can read the flow, and end it by forging any other code.
            return Verdict(error=_error(code, handed_on))
        if code is Code.NOT_MINE:
            self._not_mine += 1
            count, patience, pause = self._not_mine, _PATIENCE_ELSEWHERE, _PAUSE
        else:
            self._count += 1
            count, patience, pause = self._count, _PATIENCE, _PAUSE * self._count
        if code is Code.FORGED:
            patience, pause = _PATIENCE_ELSEWHERE, _PAUSE
        if count < patience:
            if claim and code is Code.FORGED:
                return Verdict()  # those that meet other servers go on
            return Verdict(retry_after=max(refused.retry_after / 1000, pause))
        return Verdict(error=_error(code, handed_on))


def _error(code: Code, handed_on: bool) -> FlowError:
    if code in (Code.UNKNOWN, Code.NOT_MINE):
        return OutcomeUnknown(
            "the server that took the request is gone: it may or may not have been executed"
        )
    if code is Code.FAILED:
        return ResponseTruncated("the application failed after its response had begun")
    if code is Code.GONE:
        if handed_on:
            return ResponseTruncated("the rest of the response is not to be had any more")
        return ResponseTruncated("the response is not to be had any more; ask again")
    if code is Code.CONFLICT:
        return FlowRefused("request bytes contradict those sent before")
    if code is Code.BUSY:
        return FlowRefused("the server has reached its limits; try again later")
    if code is Code.EXPIRED:
        return FlowRefused(
            "what the flow holds is too old for the server: it was idle for over an hour, or the "
            "server's clock was set; open a new one"
        )
    if code is Code.CLEARTEXT:
        return FlowRefused("this server takes private flows only: use trickless://")
    if code is Code.VERSION:
        return FlowRefused("the server speaks another version of the protocol")
    return FlowRefused("the server does not know this flow: it has another secret or service name")
