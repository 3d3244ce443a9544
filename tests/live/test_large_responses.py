"""A page of megabytes that cannot be made twice, whose maker is killed once it has made it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.live.stage import Stage, fetching, until
from trickles_web.config import ClientConfig

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live requests")]

BYTES = 14_000_000
"""More than client and server hold between them (4 MiB each), less than is kept of a response."""

APPLICATION = f"""
import os
from pathlib import Path

async def app(scope, receive, send):
    assert scope["type"] == "http"
    page = Path(__file__).parent / f"page-{{os.getpid()}}"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    with page.open("xb") as made:
        for _ in range({BYTES} // 50_000):
            chunk = os.urandom(50_000)
            made.write(chunk)
            await send({{"type": "http.response.body", "body": chunk, "more_body": True}})
        await send({{"type": "http.response.body", "body": b""}})
    page.rename(page.with_suffix(".whole"))
"""


def test_a_page_outlives_its_maker(stage: Stage, tmp_path: Path) -> None:
    (stage.directory / "maker.py").write_text(APPLICATION)
    file = tmp_path / "file"
    with stage.serving("maker:app", "--port", "0", "--workers", "2", "--lifespan", "off") as server:
        address = f"127.0.0.1:{server.port()}/"
        with fetching("trickles-get", address, file, "--limit-rate", "3M"):
            until(lambda: list(stage.directory.glob("*.whole")), "the page's end")
            (page,) = stage.directory.glob("page-*")
            os.kill(int(page.stem.removeprefix("page-")), signal.SIGKILL)
            received = file.stat().st_size + ClientConfig().receive_buffer_bytes
            assert received < BYTES - 1_000_000, "the client had everything"
        assert list(stage.directory.glob("page-*")) == [page], "it was made once"
        assert file.read_bytes() == page.read_bytes()
        assert server.end() == 0
        assert "Traceback" not in server.stderr
