"""The application of the scenario `once`: each POST inserts a row, and takes a moment for it.

`POST /MILLISECONDS`: a random part of them. The body is the request's name.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from typing import Any

FILE_VARIABLE = "EFFECTS_FILE"


def create(file: str) -> None:
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE executions (name TEXT NOT NULL)")
    database.close()


def executions(file: str) -> list[str]:
    """The name of each request that was executed, as often as it was."""
    database = sqlite3.connect(file)
    try:
        return [name for (name,) in database.execute("SELECT name FROM executions")]
    finally:
        database.close()


def _insert(name: str) -> None:
    database = sqlite3.connect(os.environ[FILE_VARIABLE], timeout=30)
    try:
        with database:
            database.execute("INSERT INTO executions VALUES (?)", (name,))
    finally:
        database.close()


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await asyncio.to_thread(_insert, body.decode())
    await asyncio.sleep(random.random() * int(scope["path"][1:]) / 1000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done " + body})
