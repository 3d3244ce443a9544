"""One datagram in words, from itself alone."""

from __future__ import annotations

from collections.abc import Iterable

from trickles_web.trace.seen import Message, Sealed, continuation_of, decoded
from trickles_web.transport import wire
from trickles_web.transport.continuation import Continuation
from trickles_web.transport.epochs import LARGEST_WINDOW, after_loss, grant
from trickles_web.transport.origin import unpack_origin
from trickles_web.transport.wire import OPEN_END, Code, Wants

MOST_RANGES = 3
"""Of a list that are named."""


def described(datagram: bytes) -> str:
    """One line, that begins with the kind."""
    message = decoded(datagram)
    if message is None:
        return f"{len(datagram):,} bytes that are no datagram of Trickles"
    return " ".join(words(message))


def words(message: Message) -> tuple[str, str]:
    """What it is, and what it says."""
    match message:
        case Sealed():
            return message.kind.name, f"sealed, {message.size:,} bytes"
        case wire.Identify():
            return "IDENTIFY", f"who are you? from byte {message.offset:,} of the answer on"
        case wire.Identity():
            stop = message.offset + len(message.part)
            return "IDENTITY", f"bytes {span(message.offset, stop)} of {message.size:,}"
        case wire.Hello():
            return "HELLO", _hello(message)
        case wire.Request():
            return "REQUEST", request(message, continuation_of(message))
        case wire.Upload():
            stop = message.offset + len(message.request)
            return "UPLOAD", f"{message.number:,}: request bytes {span(message.offset, stop)}"
        case wire.Cancel():
            return "CANCEL", "nobody waits any more"
        case wire.Data():
            return "DATA", _data(message)
        case wire.Ack():
            return "ACK", _ack(message)
        case wire.Need():
            return "NEED", f"lacks request bytes {ranges(message.ranges)}"
        case wire.Wait():
            return "WAIT", f"{message.milliseconds:,} ms, nothing is there to send yet"
        case wire.Refused():
            return "REFUSED", _refused(message)
        case wire.Preferred():
            host, port = unpack_origin(message.address)
            return "PREFERRED", f"it would rather be asked at {host}, port {port}"


def span(start: int, stop: int) -> str:
    return f"[{start:,}, {'end' if stop == OPEN_END else format(stop, ',')})"


def ranges(found: Wants) -> str:
    named = " ".join(span(*one) for one in found[:MOST_RANGES])
    more = len(found) - MOST_RANGES
    return f"{named} and {more} more" if more > 0 else named


def numbers(found: Iterable[tuple[int, int]]) -> str:
    """Half-open ranges, as 3, 7-9."""
    named = [
        f"{start:,}" if stop - start == 1 else f"{start:,}-{stop - 1:,}" for start, stop in found
    ]
    more = len(named) - MOST_RANGES
    return ", ".join(named[:MOST_RANGES]) + (f" and {more} more" if more > 0 else "")


def replica(name: int) -> str:
    """DATA carries the low 16 bits of its number."""
    return f"{name & 0xFFFF:04x}"


def threshold(ssthresh: int) -> str:
    return "no ssthresh yet" if ssthresh == LARGEST_WINDOW else f"ssthresh {ssthresh:,}"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _hello(m: wire.Hello) -> str:
    return _joined(
        f"{len(m.request):,} request bytes",
        "with a token" if m.token else "",
        f"attempt {m.attempt}" if m.attempt else "",
        f"datagrams of {m.size:,} bytes",
        "for somebody behind a gateway" if m.origin else "",
    )


def request(m: wire.Request, c: Continuation | None) -> str:
    """c: what it presents, None if that cannot be read."""
    carried = f"{len(m.request):,} request bytes" if m.request else ""
    wants = f"wants {ranges(m.wants)}"
    if c is None:
        return _joined("opens" if m.opens else "claims", wants, carried)
    if m.opens:
        attempt = f"by attempt {m.attempt}" if m.attempt else "by proof"
        how = "from a refreshed continuation" if c.refreshed and not m.attempt else attempt
        opened = f"opens generation {c.ordinal + 1:,} {how}"
        return _joined(opened, _reports(m), wants, carried, f"datagrams of {m.size:,} bytes")
    low, high = granted(m, c)
    return _joined(
        f"claims {span(m.start, c.stop)} for {span(low, high)}",
        _reports(m),
        f"earlier claims: {len(m.earlier)}" if m.earlier else "",
        wants,
        carried,
        f"a probe of {m.size:,} bytes" if m.size else "",
    )


def granted(m: wire.Request, c: Continuation) -> tuple[int, int]:
    """The numbers that the claim is worth."""
    successor = after_loss(c.epoch, m.lost) if m.lost >= 0 else None
    return grant(c.epoch, successor, m.start), grant(c.epoch, successor, c.stop)


def _reports(m: wire.Request) -> str:
    return f"number {m.lost:,} was lost" if m.lost >= 0 else ""


def _data(m: wire.Data) -> str:
    if m.flags & wire.FLAG_PROBE:
        return f"a probe of {wire.DATA_HEADER_BYTES + len(m.payload):,} bytes"
    return _joined(
        f"{m.burst + m.place:,} of {span(m.burst, m.burst + m.burst_length)}",
        f"{len(m.payload):,} bytes at {m.offset:,}",
        f"generation {m.ordinal:,}",
        f"replica {replica(m.replica)}",
        f"the answer ends at {m.burst + m.short:,}" if m.short else "",
        "continuation" if m.continuation else "",
        f"a note of {len(m.note):,} bytes" if m.note else "",
    )


def _ack(m: wire.Ack) -> str:
    room = f"open, with room for {m.room:,} more" if m.room >= 0 else ""
    return _joined(
        f"request held to {m.held:,}",
        "whole" if m.complete else room,
        f"has {numbers((k, k + 1) for k in m.numbers)}" if m.numbers else "",
        "a refreshed continuation" if m.continuation else "",
    )


def _refused(m: wire.Refused) -> str:
    try:
        name = Code(m.code).name
    except ValueError:
        name = f"for reason {m.code}"
    return _joined(name, f"retry after {m.retry_after:,} ms" if m.retry_after else "")
