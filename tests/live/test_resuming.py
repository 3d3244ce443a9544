"""Streams go on, at exactly that byte, when the process that makes them is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from apps import watermark
from tests.live.stage import Site, Stage, fetching, grown_to
from tests.live.test_downloads import CLIENTS, address_for

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live resuming")]

COUNT = 100
"""Events; 5 s of them."""


@pytest.mark.parametrize("client", CLIENTS)
def test_events_of_a_server_that_is_killed(client: str, stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "events"
    # A request of several datagrams has to be sent again, beside the note.
    options = ["-N", "-H", f"X-Large: {'x' * 4000}"] if client == "curl" else []
    with (
        Site(stage, "apps.stream:app", "--port", "0") as site,
        address_for(client, stage, site.port) as address,
        fetching(client, f"{address}/?count={COUNT}", file, *options),
    ):
        for kill in range(1, 5):
            grown_to(file, kill * 400)
            site.restart()
    events = [event.split() for event in file.read_text().split("\n\n")[:-1]]
    assert [event[1] for event in events] == [str(number) for number in range(COUNT)]
    assert len({event[-1] for event in events}) >= 4, "processes that have sent some of it"


async def rendered(query: bytes) -> bytes:
    parts: list[bytes] = []

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))

    async def receive() -> Any:
        raise AssertionError

    await watermark.app({"type": "http", "query_string": query, "headers": []}, receive, send)
    return b"".join(parts)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_picture_for_each_client(client: str, stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "picture"
    whole = asyncio.run(rendered(b"name=Ada"))
    with (
        Site(stage, "apps.watermark:app", "--port", "0") as site,
        address_for(client, stage, site.port) as address,
        fetching(client, f"{address}/?name=Ada", file, "--limit-rate", "1M"),
    ):
        for share in (0.1, 0.4, 0.7):
            grown_to(file, int(share * len(whole)))
            site.restart()
    assert file.read_bytes() == whole
