"""apps.watermark: a right PNG, with a name in it, the rest of which follows from any state."""

from __future__ import annotations

import asyncio
import struct
import zlib
from typing import Any

import pytest

from apps import watermark
from apps.watermark import HEIGHT, WIDTH, app, name_of, stamp


def sent(query: bytes, state: bytes | None = None) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope: dict[str, Any] = {"type": "http", "query_string": query, "headers": []}
    scope["extensions"] = {"trickles.checkpoint": {} if state is None else {"state": state}}
    asyncio.run(app(scope, receive, send))
    return messages


def whole(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def pixels(png: bytes) -> bytes:
    """The decompressed rows of a PNG file, whose checksums are right."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, kinds = 8, b"", []
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", png, at + 8 + length)
        assert checksum == zlib.crc32(kind + body)
        kinds.append(kind)
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    return zlib.decompress(data)  # which checks the Adler-32


def test_a_picture_with_a_name() -> None:
    rows = pixels(whole(sent(b"name=Ada")))
    assert len(rows) == HEIGHT * (1 + 3 * WIDTH)
    for y in (0, 3, 8, HEIGHT - 1):
        row = rows[y * (1 + 3 * WIDTH) : (y + 1) * (1 + 3 * WIDTH)]
        assert row[0] == 0
        mask = stamp("ADA", y)
        assert all(red == 255 for red, m in zip(row[1::3], mask, strict=True) if m)
    assert any(stamp("ADA", 3))
    assert whole(sent(b"name=Bob")) != whole(sent(b"name=Ada"))


@pytest.mark.parametrize("k", [0, 1, 50, 111, 112])
def test_the_rest_follows_from_any_state(k: int) -> None:
    messages = sent(b"name=Grace")
    state = messages[1 + k]["trickles.checkpoint"]
    assert whole(sent(b"name=Grace", state)) == whole(messages[k + 2 :])


def test_names_are_letters() -> None:
    assert name_of({"query_string": b"name=%3Cb%3EZo%C3%AB"}) == "BZO"
    assert name_of({"query_string": b""}) == "NOBODY"
    assert len(name_of({"query_string": b"name=" + b"x" * 1000})) == watermark.LONGEST_NAME
