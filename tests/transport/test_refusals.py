"""What a client makes of refusals, and which news make it forget those before."""

from __future__ import annotations

from trickles_web.errors import FlowError, FlowRefused, OutcomeUnknown
from trickles_web.transport.refusals import Refusals
from trickles_web.transport.wire import Code, Refused


def error_after(code: Code, count: int, *, upload: bool) -> FlowError | None:
    """What ends a flow that hears of good news after each of so many refusals."""
    refusals = Refusals()
    for _ in range(count):
        verdict = refusals.judge(Refused(bytes(8), code, 0, bytes(8)), handed_on=False, claim=False)
        if verdict.error is not None:
            return verdict.error
        refusals.progress(upload=upload)
    return None


def test_one_replica_that_is_wrong_ends_no_upload() -> None:
    assert error_after(Code.FORGED, 1000, upload=True) is None


def test_a_request_that_nobody_may_run_ends_though_its_bytes_are_taken() -> None:
    assert isinstance(error_after(Code.NOT_MINE, 100, upload=True), OutcomeUnknown)


def test_an_answer_is_good_news_of_everything() -> None:
    assert error_after(Code.NOT_MINE, 1000, upload=False) is None


def test_a_stranger_among_replicas_is_passed_by() -> None:
    refusals = Refusals()
    refused = Refused(bytes(8), Code.FORGED, 0, bytes(8))
    verdicts = [refusals.judge(refused, handed_on=False, claim=True) for _ in range(23)]
    assert {(v.error, v.retry_after) for v in verdicts} == {(None, None)}
    assert isinstance(refusals.judge(refused, False, claim=True).error, FlowRefused)


def test_a_service_without_flows_in_clear_ends_one_at_once() -> None:
    refusals, refused = Refusals(), Refused(bytes(8), Code.CLEARTEXT, 0, bytes(8))
    error = refusals.judge(refused, handed_on=False, claim=False).error
    assert isinstance(error, FlowRefused) and "trickless://" in str(error)


def test_one_server_without_flows_in_clear_is_passed_by_where_another_served_it() -> None:
    refusals, refused = Refusals(), Refused(bytes(8), Code.CLEARTEXT, 0, bytes(8))
    refusals.progress()
    verdicts = [refusals.judge(refused, handed_on=False, claim=False) for _ in range(8)]
    assert [v.error for v in verdicts[:7]] == [None] * 7
    assert isinstance(verdicts[7].error, FlowRefused)
