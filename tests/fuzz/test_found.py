"""What fuzzing found, each as short as it came out."""

from __future__ import annotations

from tests.fuzz.receiving import Receiving


def test_bytes_beyond_the_reader_s_room_are_not_asked_for_without_end() -> None:
    """A hole beyond what the reader has room for was opened for again and again, once in each
    round trip, and each time for a byte that was here.
    """
    subject = Receiving()
    subject.invent_data(43, 192, 128)
    subject.end()
