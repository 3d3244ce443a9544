"""The Starlette site, in-process."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps import large_files
from apps.large_files import MEGABYTE, megabyte
from apps.site import app


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SITE_CACHE_DIR", str(tmp_path))
    return tmp_path


def ask(method: str, path: str, **options: Any) -> httpx.Response:
    """One request to the application. `options` are those of httpx."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://site.test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(exchange())


def test_page_names_the_process_to_kill() -> None:
    response = ask("GET", "/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert f"kill -9 {os.getpid()}" in response.text
    assert "http://site.test/files/100.bin" in response.text
    assert "$" not in response.text, "a placeholder was left"


def test_page_escapes_the_host() -> None:
    response = ask("GET", "/", headers={"host": "a<script>.test"})
    assert "a<script>" not in response.text


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/static/site.css", "text/css"), ("/static/trickles.svg", "image/svg+xml")],
)
def test_static_files_that_the_page_links(path: str, media_type: str) -> None:
    assert f'"{path}"' in ask("GET", "/").text
    response = ask("GET", path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media_type)


@pytest.mark.parametrize("path", ["/files/2.bin", "/large?megabytes=2"])
def test_large_file(path: str) -> None:
    response = ask("GET", path)
    assert response.status_code == 200
    assert response.headers["content-length"] == str(2 * MEGABYTE)
    assert response.content == megabyte(0) + megabyte(1)


def test_head_of_a_large_file() -> None:
    response = ask("HEAD", "/files/2.bin")
    assert response.headers["content-length"] == str(2 * MEGABYTE)
    assert response.content == b""


def test_range_of_a_large_file() -> None:
    response = ask("GET", "/files/2.bin", headers={"range": "bytes=999990-1000009"})
    assert response.status_code == 206
    assert response.content == megabyte(0)[-10:] + megabyte(1)[:10]


def test_large_file_is_handed_to_the_server_by_path(cache: Path) -> None:
    """With `http.response.pathsend` on offer no byte of it goes through the application."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/files/1.bin",
        "query_string": b"",
        "headers": [],
        "extensions": {"http.response.pathsend": {}},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert [message["type"] for message in sent] == [
        "http.response.start",
        "http.response.pathsend",
    ]
    assert sent[1]["path"] == str(cache / "1.bin")


def test_checksum_is_that_of_the_file() -> None:
    digest = hashlib.sha256(ask("GET", "/files/1.bin").content).hexdigest()
    assert ask("GET", "/files/1.bin.sha256").text == f"{digest}  1.bin\n"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/files/0.bin", 404),
        ("/files/999999.bin", 404),
        ("/files/0.bin.sha256", 404),
        ("/files/some.bin", 404),
        ("/large?megabytes=-1", 404),
        ("/large?megabytes=some", 400),
        ("/slow?seconds=some", 400),
        ("/slow?seconds=-1", 400),
        ("/slow?seconds=nan", 400),
        ("/slow?seconds=inf", 400),
        ("/nowhere", 404),
        ("/upload", 405),
    ],
)
def test_bad_requests(path: str, status: int) -> None:
    assert ask("GET", path).status_code == status


@pytest.mark.parametrize("path", ["/files/2.bin", "/files/2.bin.sha256"])
def test_full_cache(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_files, "CACHE_BYTES", MEGABYTE)
    assert ask("GET", path).status_code == 507


@pytest.mark.parametrize("body", [b"", b"short", megabyte(7)], ids=["empty", "short", "long"])
def test_upload_of_a_raw_body(body: bytes) -> None:
    response = ask("POST", "/upload", content=body)
    assert response.json() == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}


def test_upload_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(10):
            yield bytes([number]) * 1000

    whole = b"".join(bytes([number]) * 1000 for number in range(10))
    response = ask("POST", "/upload", content=pieces())
    assert response.json() == {"sha256": hashlib.sha256(whole).hexdigest(), "size": 10_000}


def test_upload_from_the_page() -> None:
    body = megabyte(0) + b"and over the size that stays in memory"
    response = ask("POST", "/upload", files={"file": ("name.bin", body)})
    assert response.json() == {
        "name": "name.bin",
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
    }


def test_upload_without_a_file() -> None:
    other = ask("POST", "/upload", files={"other": b"x"})
    text = ask("POST", "/upload", files={"file": (None, b"no file but a field")})
    broken = ask("POST", "/upload", content=b"x", headers={"content-type": "multipart/form-data"})
    assert [other.status_code, text.status_code, broken.status_code] == [400, 400, 400]


def test_slow_answers() -> None:
    response = ask("GET", "/slow?seconds=0.01")
    assert (response.status_code, response.text) == (200, "slept for 0.01 s\n")
