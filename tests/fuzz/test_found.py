"""What fuzzing found, each as short as it came out."""

from __future__ import annotations

from tests.fuzz.frames import websocket_frames
from tests.fuzz.receiving import Receiving


def test_bytes_beyond_the_reader_s_room_are_not_asked_for_without_end() -> None:
    """A hole beyond what the reader has room for was opened for again and again, once in each
    round trip, and each time for a byte that was here.
    """
    subject = Receiving()
    subject.invent_data(43, 192, 128)
    subject.end()


def test_a_wait_for_what_was_opened_by_no_continuation_puts_off_nothing() -> None:
    """A WAIT that named the end of no burst was taken for one about the opening, which can not be
    asked for again like a claim: when its time came, the client failed.
    """
    subject = Receiving()
    subject.invent_data(0, 0, 15)
    subject.invent_others(1, 0, 21)
    subject.drop(0, 0, 1)
    subject.end()


def test_a_line_whose_continuations_are_all_taken_for_lost_is_opened_anew() -> None:
    """The last packet of the first window came first, and the others only when they counted as
    lost. All was settled, nothing could be claimed, and the client took its reader to be slow.
    """
    subject = Receiving()
    subject.serve(0, 0, 0)
    subject.deliver(0, 0, 0)
    subject.serve(0, 0, 0)
    subject.deliver(0, 0, 0)
    subject.serve(1, 13, 3)
    subject.repeat(255, 253, 0)
    subject.pass_time(0, 0, 0)
    subject.end()


def test_frames_that_break_two_rules_end_with_the_code_of_either() -> None:
    """A frame that does not inflate, and behind it one that may not follow: how they are cut says
    which of them wsproto sees first.
    """
    websocket_frames(bytes.fromhex("82" * 9 + "41" + "82" * 25))
