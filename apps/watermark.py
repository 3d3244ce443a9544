"""A picture made for each client as it is sent, the demonstration of the Trickles papers.

    trickles-serve apps.watermark:app --gateway 127.0.0.1:8080
    curl -o picture.png "http://127.0.0.1:8080/?name=Ada"

Several MB of PNG, stamped with the name in the query, which nobody stores: any process makes the
bytes behind any checkpoint anew. The state is the next row and the checksum so far.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from hashlib import shake_128
from urllib.parse import parse_qs

from apps.hello import Receive, Scope, Send, lifespan
from trickles_web.resumable import Chunks, resumable_stream

WIDTH, HEIGHT = 1200, 900
"""Pixels."""
BAND = 8
"""Rows in one IDAT chunk, and between two states."""
LONGEST_NAME = 24
_STATE = struct.Struct(">II")
_CELL = 6
"""Pixels of picture for each pixel of a letter."""
FONT = bytes.fromhex(
    "7e09097e 7f493600 3e414122 7f413e00 7f494941 7f090901 3e414979 7f08087f"
    "417f4100 20413f00 7f087700 7f404040 7f027f00 7f063f7f 3e41413e 7f09060e"
    "3e41615e 7f097600 26494932 017f0100 3f40403f 3f403f00 7f307f00 77087700"
    "07780700 71494700"
)
"""A to Z, four columns of seven bits each, the lowest bit on top."""


def name_of(scope: Scope) -> str:
    """The letters that are stamped."""
    name = parse_qs(scope["query_string"].decode("latin-1")).get("name", ["nobody"])[0]
    return "".join(c for c in name.upper() if "A" <= c <= "Z")[:LONGEST_NAME]


def stamp(name: str, y: int) -> bytes:
    """A mask for row y: 255 where there is a letter, 0 elsewhere."""
    line = y // _CELL % 12
    row = bytearray(WIDTH)
    if line >= 7:
        return bytes(row)
    for i, letter in enumerate(name):
        columns = FONT[(ord(letter) - 65) * 4 : (ord(letter) - 65) * 4 + 4]
        for x, bits in enumerate(columns):
            if bits >> line & 1:
                at = (i * 5 + x) * _CELL
                row[at : at + _CELL] = b"\xff" * min(_CELL, max(0, WIDTH - at))
    return bytes(row[:WIDTH])


def scanline(name: str, y: int) -> bytes:
    """Row y as PNG wants it: the filter, none, and three bytes for each pixel."""
    noise = bytearray(shake_128(y.to_bytes(4, "big")).digest(3 * WIDTH))
    mask = int.from_bytes(stamp(name, y), "big")
    red = int.from_bytes(noise[::3], "big") | mask
    noise[::3] = red.to_bytes(WIDTH, "big")
    return b"\0" + bytes(noise)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def stored(data: bytes) -> bytes:
    """A deflate block that is not compressed, and not the last (RFC 1951 §3.2.4)."""
    return struct.pack("<BHH", 0, len(data), 0xFFFF ^ len(data)) + data


HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))


@resumable_stream("image/png")
async def picture(scope: Scope, state: bytes | None) -> Chunks:
    """Uncompressed, so that no compressor's memory is part of the state."""
    name = name_of(scope)
    y, checksum = (0, 1) if state is None else _STATE.unpack(state)
    while y < HEIGHT:
        rows = b"".join(scanline(name, row) for row in range(y, min(y + BAND, HEIGHT)))
        head = HEAD if y == 0 else b""
        deflated = (b"\x78\x01" if y == 0 else b"") + stored(rows)
        y, checksum = y + BAND, zlib.adler32(rows, checksum)
        yield head + chunk(b"IDAT", deflated), _STATE.pack(y, checksum)
        await asyncio.sleep(0)  # others have their turn
    last = b"\x01\0\0\xff\xff" + checksum.to_bytes(4, "big")
    yield chunk(b"IDAT", last) + chunk(b"IEND", b""), None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The picture, at any path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await picture(scope, receive, send)
    else:
        raise NotImplementedError(f"scope type {scope['type']!r}")
