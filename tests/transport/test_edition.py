"""What the client hands on, and which edition it follows: packets made by hand."""

from __future__ import annotations

from tests.transport.driver import NOW, keyring
from trickles_web.transport import note as notes
from trickles_web.transport.edition import Edition
from trickles_web.transport.note import UNBOUND, Note
from trickles_web.transport.reassembly import Reassembly
from trickles_web.transport.wire import FLAG_NOTED, Data

FIRST, SECOND, THIRD = 11, 12, 13


class Client:
    """A stream and its edition, given packets in any order."""

    def __init__(self) -> None:
        self.stream = Reassembly()
        self.edition = Edition(self.stream)
        self.number = 0

    def packet(
        self, edition: int, offset: int, payload: bytes, *, noted: bool = True, carrier: bool = True
    ) -> Data:
        self.number += 1
        header = (b"flow-id.", 1, 1, 0, 0, 10, 65_535, 0, FLAG_NOTED * noted, 0)
        burst = (edition, self.number, 1, 0, 0, 0)
        return Data(*header, *burst, offset, b"c" * carrier, payload)

    def take(
        self, edition: int, offset: int, payload: bytes, joins: int = 0, firm: int | None = None
    ) -> bool:
        """A carrier with a note, or without one; True if it was of use."""
        data = self.packet(edition, offset, payload)
        if firm is not None:
            data = data._replace(note=sealed(joins, firm))
        return self.give(data)

    def give(self, data: Data) -> bool:
        if data.edition != self.edition.number and not self.edition.follow(data):
            return False
        self.stream.insert(data.offset, bytes(data.payload))
        self.edition.take(data)
        return True


def sealed(joins: int, firm: int) -> bytes:
    return notes.seal(keyring(), Note(joins, firm, b"state"), 1, NOW)


def test_an_ordinary_response_is_handed_on_at_once() -> None:
    client = Client()
    client.give(client.packet(FIRST, 0, b"abc", noted=False))
    assert client.stream.read(9) == b"abc"


def test_no_byte_above_the_last_note_is_handed_on() -> None:
    client = Client()
    client.take(FIRST, 0, b"abcdef")
    assert client.stream.read(9) == b""  # no note yet
    client.take(FIRST, 6, b"ghi", firm=4)
    assert client.stream.read(9) == b"abcd"
    client.take(FIRST, 0, b"", firm=9)
    assert client.stream.read(9) == b"efghi"


def test_a_note_counts_when_all_its_bytes_are_here() -> None:
    """Only then could another server go on from it, for it cannot make the bytes below."""
    client = Client()
    client.take(FIRST, 0, b"abc", firm=3)
    client.take(FIRST, 5, b"fg", firm=7)
    assert client.stream.read(9) == b"abc"
    assert notes.parse(client.edition.note).firm == 3
    client.give(client.packet(FIRST, 3, b"de", carrier=False))
    assert client.stream.read(9) == b"defg"
    assert notes.parse(client.edition.note).firm == 7


def test_many_notes_that_wait() -> None:
    """The lowest and the highest stay, so that neither a hole nor a rest hides what is here."""
    client = Client()
    for offset in range(1, 200):
        client.take(FIRST, offset, b"x", firm=offset + 1)
    client.take(FIRST, 0, b"x")
    assert client.stream.read(999) == b"x" * 200
    assert notes.parse(client.edition.note).firm == 200


def test_another_edition_goes_on_where_it_joins() -> None:
    client = Client()
    client.take(FIRST, 0, b"abcdef", firm=4)
    assert client.stream.read(2) == b"ab"
    assert client.take(SECOND, 4, b"EFG", joins=4, firm=7)
    assert client.stream.read(9) == b"cdEFG"
    assert not client.take(FIRST, 6, b"ghi", firm=9)
    assert client.stream.received == 7


def test_an_edition_that_contradicts_what_was_read_is_ignored() -> None:
    client = Client()
    client.take(FIRST, 0, b"abcdef", firm=6)
    assert client.stream.read(5) == b"abcde"
    assert not client.take(SECOND, 4, b"EFG", joins=4, firm=7)
    assert client.take(THIRD, 5, b"FG", joins=5, firm=7)
    assert client.stream.read(9) == b"FG"


def test_an_edition_whose_beginning_is_nowhere_is_ignored() -> None:
    client = Client()
    client.take(FIRST, 0, b"abc", firm=3)
    assert not client.take(SECOND, 5, b"FG", joins=5, firm=7)
    assert client.stream.read(9) == b"abc"


def test_a_packet_that_does_not_say_where_it_joins_is_not_followed() -> None:
    client = Client()
    client.take(FIRST, 0, b"abcdef", firm=4)
    assert not client.give(client.packet(SECOND, 4, b"EFG", carrier=False))
    assert not client.give(client.packet(SECOND, 4, b"EFG")._replace(note=b"no note at all"))
    assert client.edition.number == FIRST


def test_the_note_of_bytes_that_another_edition_replaced_is_forgotten() -> None:
    """A slow reader: the old edition's note lies above where the new one joins."""
    client = Client()
    client.take(FIRST, 0, b"abcdef", firm=6)
    assert client.take(SECOND, 4, b"E", joins=4, firm=4)
    assert notes.parse(client.edition.note).firm == 4
    assert client.stream.read(9) == b"abcd"
    assert client.take(SECOND, 5, b"F", joins=4, firm=6)
    assert client.stream.read(9) == b"EF"


def test_made_again_from_the_start_while_nothing_was_read() -> None:
    client = Client()
    client.take(FIRST, 0, b"abc")
    assert client.take(SECOND, 0, b"ABCD")
    assert client.take(SECOND, 4, b"E", firm=5)
    assert client.stream.read(9) == b"ABCDE"


def test_no_more_notes() -> None:
    client = Client()
    client.take(FIRST, 0, b"abcdef", firm=4)
    client.take(FIRST, 8, b"i", firm=UNBOUND)
    assert client.stream.read(9) == b"abcdef"
    assert client.edition.note == b""
    client.take(FIRST, 6, b"gh", firm=6)
    assert client.stream.read(9) == b"ghi"


def test_the_end_makes_all_firm_and_the_next_exchange_begins_anew() -> None:
    client = Client()
    client.take(FIRST, 0, b"abcdef", firm=4)
    client.edition.finish()
    client.edition.start()
    client.take(SECOND, 6, b"gh")
    assert client.stream.read(9) == b"abcdef"
    client.take(SECOND, 8, b"i", firm=9)
    assert client.stream.read(9) == b"ghi"
