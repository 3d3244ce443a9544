"""apps.stream: consecutive numbers, from any of them on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apps import stream
from apps.stream import app


def sent(
    query: bytes, *headers: tuple[bytes, bytes], state: bytes | None = None
) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope: dict[str, Any] = {"type": "http", "query_string": query, "headers": headers}
    scope["extensions"] = {"trickles.checkpoint": {} if state is None else {"state": state}}
    asyncio.run(app(scope, receive, send))
    return messages


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "INTERVAL_S", 0)


def ids(messages: list[dict[str, Any]]) -> list[int]:
    body = b"".join(message.get("body", b"") for message in messages)
    return [int(line[4:]) for line in body.splitlines() if line.startswith(b"id: ")]


def test_numbers_from_zero() -> None:
    messages = sent(b"count=5")
    assert (b"content-type", b"text/event-stream") in messages[0]["headers"]
    assert ids(messages) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("value", "first"), [(b"2", 3), (b"4", 5), (b"x", 0), (b"-1", 0)])
def test_a_reconnecting_client_goes_on(value: bytes, first: int) -> None:
    assert ids(sent(b"count=5", (b"last-event-id", value))) == list(range(first, 5))


@pytest.mark.parametrize(("value", "first"), [(b"2", 3), (b"99", 5), (b"x", 0), (b"-1", 0)])
def test_a_page_that_begins_anew_goes_on(value: bytes, first: int) -> None:
    assert ids(sent(b"count=5&after=" + value)) == list(range(first, 5))


def test_the_last_event_counts_more_than_where_the_page_began() -> None:
    assert ids(sent(b"count=5&after=1", (b"last-event-id", b"3"))) == [4]


def test_any_state_goes_on_there() -> None:
    whole = sent(b"count=5", (b"last-event-id", b"0"))[2:]  # behind the head
    for k, message in enumerate(whole[:-1]):
        again = sent(b"count=5", (b"last-event-id", b"0"), state=message["trickles.checkpoint"])
        assert again[2:] == whole[k + 1 :]


def test_an_endless_stream_is_the_default() -> None:
    first = stream._count({"query_string": b""})
    assert first == stream._count({"query_string": b"count=x"}) == stream.MOST_EVENTS
    assert stream._count({"query_string": b"count=99999999999999999999"}) == stream.MOST_EVENTS
