"""Captures: what is written can be read, by tcpdump too; what is broken is an error of one line."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trace.recorded import Told, seen, transfer
from trickles_web.trace.frames import CaptureError, Frame
from trickles_web.trace.packets import datagrams
from trickles_web.trace.pcap import frame, frames, header
from trickles_web.trace.recording import Recording
from trickles_web.trace.rows import Row
from trickles_web.trace.seen import Seen, decoded
from trickles_web.trace.telling import Stories, tell
from trickles_web.transport import wire

FLOW = bytes(range(8))
CLIENT, SERVER = ("192.0.2.7", 50_000), ("198.51.100.1", 8000)
HELLO = wire.encode_hello(wire.Hello(FLOW, 0, 1200, b"", b"GET /"), 1200)
WAIT = wire.encode_wait(wire.Wait(FLOW, 1, 2, 3, 250))


def data(place: int, payload: bytes, flow: bytes = FLOW) -> bytes:
    prefix = wire.data_prefix(flow, 0, 1, 0, 0, 10, 65_535, 0, 0, 7, 1, 0, 10, 0)
    return prefix + wire.DATA_PACKET.pack(place, 5, place * len(payload), 0) + payload


def recorded(*calls: tuple[bool, bytes, int]) -> bytes:
    """A capture of these: sent or not, what, and the length of each of its datagrams."""
    file = io.BytesIO()
    recording = Recording(file, lambda: 1_700_000_000_123_456_789)
    for sent, train, segment in calls:
        if sent:
            recording.sent([train], CLIENT, SERVER)
        else:
            recording.received(train, segment, CLIENT, SERVER)
    return file.getvalue()


def test_what_is_recorded_is_read_again() -> None:
    train = data(0, b"a" * 100) + data(1, b"b" * 100) + data(2, b"c" * 7)
    capture = recorded((True, HELLO, 0), (False, WAIT, len(WAIT)), (False, train, 163))
    hello, wait, *rest = seen(capture)
    assert hello == Seen(hello.at, CLIENT, SERVER, HELLO)
    assert abs(hello.at - 1_700_000_000.123456789) < 1e-6
    assert wait == Seen(hello.at, CLIENT, SERVER, WAIT)
    assert [one.datagram for one in rest] == [
        data(0, bytes(100)),
        data(1, bytes(100)),
        data(2, bytes(7)),
    ]
    assert b"aaa" not in capture  # response bytes are nobody's business


def test_ipv6() -> None:
    file = io.BytesIO()
    recording = Recording(file)
    recording.sent([HELLO], ("fe80::1%eth0", 5, 0, 2), ("2001:db8::2", 8000, 0, 0))
    [one] = seen(file.getvalue())
    assert (one.client, one.server) == (("fe80::1", 5), ("2001:db8::2", 8000))
    assert one.datagram == HELLO


def ip(payload: bytes, *, cut: int | None = None) -> bytes:
    """An IPv4 packet of a client, as another program writes it."""
    udp = struct.pack(">HHHH", 50_000, 8000, 8 + len(payload), 0) + payload
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, b"\xc0\0\2\7", b"\xc6\x33\x64\1"
    )
    return (head + udp)[:cut]


LINKS = {
    0: struct.pack("=I", 2),
    1: b"\2" * 12 + b"\x08\x00",
    101: b"",
    113: bytes(14) + b"\x08\x00",
    228: b"",
    276: b"\x08\x00" + bytes(18),
}


def capture(link: int, *packets: bytes, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    whole = struct.pack(f"{order}IHHQII", magic, 2, 4, 0, 65_535, link)
    for packet in packets:
        whole += struct.pack(f"{order}IIII", 10, 500_000, len(packet), len(packet)) + packet
    return whole


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link", LINKS)
def test_links_and_byte_orders(link: int, order: str) -> None:
    [one] = seen(capture(link, LINKS[link] + ip(HELLO), order=order))
    assert one == Seen(10.5, CLIENT, SERVER, HELLO)


def newer(*packets: bytes, order: str = "<", link: int = 101, options: bytes = b"") -> bytes:
    """The same in the newer format; a block of another kind is in it."""

    def block(kind: int, content: bytes) -> bytes:
        content = content.ljust(-(-len(content) // 4) * 4, b"\0")
        size = struct.pack(f"{order}I", 12 + len(content))
        return struct.pack(f"{order}I", kind) + size + content + size

    def time(seconds: float, unit: float) -> tuple[int, int]:
        return divmod(round(seconds / unit), 1 << 32)

    whole = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    whole += block(1, struct.pack(f"{order}HHI", link, 0, 0) + options) + block(5, b"statistics")
    unit = 1e-9 if options else 1e-6
    for packet in packets:
        head = struct.pack(f"{order}IIIII", 0, *time(10.5, unit), len(packet), len(packet))
        whole += block(6, head + packet)
    return whole


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_newer_format(order: str) -> None:
    nanoseconds = struct.pack(f"{order}HHB3xHH", 9, 1, 9, 0, 0)
    for options in (b"", nanoseconds):
        whole = newer(ip(HELLO), ip(WAIT), order=order, options=options)
        assert seen(whole + whole) == 2 * [
            Seen(10.5, CLIENT, SERVER, HELLO),
            Seen(10.5, SERVER, CLIENT, WAIT),
        ]


def test_the_newer_format_when_it_is_broken() -> None:
    whole = newer(ip(HELLO))
    # Where nothing but a packet is missing, it is a capture of which the rest is to come.
    for stop in range(12, len(whole)):
        if stop not in (28, 48, 72):
            with pytest.raises(CaptureError, match=r"breaks off|damaged"):
                seen(whole[:stop])
    assert seen(whole[:72]) == []


def test_tagged_ethernet() -> None:
    tagged = b"\2" * 12 + b"\x81\x00\0\5" + b"\x08\x00"
    [one] = seen(capture(1, tagged + ip(HELLO)))
    assert one.datagram == HELLO


def test_what_is_not_ours_is_passed_over() -> None:
    others = [b"", b"\x45", ip(b""), ip(b"\x11"), ip(b"\x99" * 200), ip(HELLO, cut=25), b"\0" * 60]
    assert [one.datagram for one in seen(capture(101, *others, ip(HELLO)))] == [HELLO]


def test_packets_that_were_cut_short_count_as_long_as_they_were() -> None:
    [one] = seen(capture(101, ip(data(3, b"x" * 1000), cut=28 + 63)))
    message = decoded(one.datagram)
    assert isinstance(message, wire.Data)
    assert (message.place, len(message.payload)) == (3, 1000)


def test_trains_that_were_captured_as_one_are_taken_apart() -> None:
    """As a kernel shows them that segments later, or has put them together."""
    train = b"".join(data(place, b"x" * 1137) for place in range(9)) + data(9, b"x")
    assert [len(one.datagram) for one in seen(capture(101, ip(train)))] == [1200] * 9 + [64]
    # What holds the flow's id somewhere else is one datagram.
    odd = data(0, b"x" * 50 + FLOW + b"x" * 80)
    assert [one.datagram for one in seen(capture(101, ip(odd)))] == [odd]


@pytest.mark.parametrize(
    ("whole", "complaint"),
    [
        (b"", "no capture file"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no capture file"),
        (b"\n\r\r\n" + bytes(40), "byte order"),
        (capture(101, ip(HELLO))[:-1], "breaks off"),
        (capture(101, ip(HELLO))[:30], "breaks off"),
        (capture(147, ip(HELLO)), "type 147"),
        (header() + struct.pack("<IIII", 1, 1, 1 << 30, 5), "damaged"),
    ],
)
def test_what_is_no_capture(whole: bytes, complaint: str) -> None:
    with pytest.raises(CaptureError, match=complaint) as caught:
        seen(whole)
    assert "\n" not in str(caught.value)


def test_what_came_before_the_end_of_a_broken_capture_is_told() -> None:
    whole = transfer(1, size=50_000).capture
    stories, rows = Stories(), list[Row]()
    with pytest.raises(CaptureError):
        tell(datagrams(frames(io.BytesIO(whole[:-5]))), stories, rows.append)
    [story] = stories.flows.values()
    assert story.totals.kinds.total() == Told(whole).totals.kinds.total() - 1
    assert rows


CAPTURE = transfer(1, size=30_000, body=20_000, loss=0.02).capture
NEWER = newer(*(one.data for one in frames(io.BytesIO(CAPTURE))))


@pytest.mark.parametrize("capture", [CAPTURE, NEWER], ids=["pcap", "pcapng"])
@given(st.data())
def test_hostile_captures(capture: bytes, draw: st.DataObject) -> None:
    """Bytes that were changed, taken out or put in: a story, or an error of one line."""
    whole = bytearray(capture)
    for _ in range(draw.draw(st.integers(1, 8))):
        at = draw.draw(st.integers(0, max(0, len(whole) - 1)))
        match draw.draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change" if whole:
                whole[at] = draw.draw(st.integers(0, 255))
            case "cut":
                del whole[at : at + draw.draw(st.integers(1, 40))]
            case "insert":
                whole[at:at] = draw.draw(st.binary(min_size=1, max_size=40))
            case _:
                del whole[at + 1 :]
    _told_or_refused(bytes(whole))


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_hostile_datagrams(payloads: list[bytes]) -> None:
    """Of a flow that is whatever they say."""
    kinds = [bytes([0x10 | kind]) + FLOW for kind in (1, 2, 3, 8, 8, 8, 9, 10, 11, 12)]
    known = [kinds[k % len(kinds)] + rest for k, rest in enumerate(payloads)]
    _told_or_refused(capture(101, *(ip(one) for one in known)))


NUMBERS = st.integers(0, 2**32 - 1)
SMALL = st.integers(0, 2**16 - 1)


@given(
    st.lists(
        st.tuples(
            *[NUMBERS] * 4, SMALL, SMALL, *[st.integers(0, 3)] * 2, SMALL, NUMBERS, NUMBERS,
            st.integers(1, 255), SMALL,
        ),
        max_size=30,
    ),
    st.integers(0, 2**63),
)  # fmt: skip
def test_hostile_numbers(fields: list[tuple[int, ...]], offset: int) -> None:
    """DATA of which every number is somebody's invention."""
    packets = [
        wire.data_prefix(FLOW, *one) + wire.DATA_PACKET.pack(0, 1, offset, 0) + b"x"
        for one in fields
    ]
    _told_or_refused(capture(101, *map(ip, packets)))


def _told_or_refused(whole: bytes) -> None:
    stories = Stories()
    try:
        tell(datagrams(frames(io.BytesIO(whole))), stories, lambda row: None)
    except CaptureError as error:
        assert "\n" not in str(error)
    for story in stories.flows.values():
        assert stories.summary(story)
    assert stories.table()


def test_a_full_disk_ends_the_recording() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        recording = Recording(file)
        recording.sent([HELLO], CLIENT, SERVER)
        assert str(recording.error) == "the trace cannot be written: No space left on device"


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump")
def test_tcpdump_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "flow.pcap"
    file.write_bytes(recorded((True, HELLO, 0), (False, data(0, b"x" * 1000), 1063)))
    done = subprocess.run(
        ["tcpdump", "-nn", "-v", "-r", str(file)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "192.0.2.7.50000 > 198.51.100.1.8000: UDP, length 1200" in done.stdout
    assert "198.51.100.1.8000 > 192.0.2.7.50000: UDP, length 1063" in done.stdout
    assert "bad cksum" not in done.stdout


def test_frames_are_what_was_written() -> None:
    whole = header() + frame(1_500_000_000, b"abc", 100)
    assert list(frames(io.BytesIO(whole))) == [Frame(1.5, 101, b"abc", 100)]
