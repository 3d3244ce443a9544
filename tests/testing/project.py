"""A project whose tests use the plugin, as somebody might write it: plain ASGI, and SQLite.

One application can be served by many replicas. Three cannot: each looks right in one process.
"""

APPLICATIONS = '''
import json
import os
import secrets
import sqlite3
from http.cookies import SimpleCookie

DATABASE = os.path.join(os.path.dirname(__file__), "shop.db")
counted = 0
sessions = {}


def prepare():
    with sqlite3.connect(DATABASE) as database:
        database.execute("create table visits (name text)")
        database.execute("create table payments (key text, cents integer)")


async def body_of(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    return body


async def answer(send, value, *headers):
    body = json.dumps(value).encode()
    start = {"type": "http.response.start", "status": 200, "headers": list(headers)}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def query(statement, *values):
    with sqlite3.connect(DATABASE) as database:
        return database.execute(statement, values).fetchall()


async def safe(scope, receive, send):
    """Keeps its state in a database, and knows a payment that comes again by its key."""
    if scope["path"] == "/visit":
        name = (await body_of(receive)).decode()
        if not query("select 1 from visits where name = ?", name):
            query("insert into visits values (?)", name)
    if scope["path"] == "/pay":
        key = dict(scope["headers"])[b"idempotency-key"].decode()
        if not query("select 1 from payments where key = ?", key):
            query("insert into payments values (?, ?)", key, int(await body_of(receive)))
    (visits,), = query("select count(*) from visits")
    (paid,), = query("select coalesce(sum(cents), 0) from payments")
    await answer(send, {"visits": visits, "paid": paid})


async def counting(scope, receive, send):
    """A global counter."""
    global counted
    assert scope["type"] == "http"
    counted += 1
    await answer(send, counted)


async def remembering(scope, receive, send):
    """Sessions in memory."""
    if scope["path"] == "/login":
        name = (await body_of(receive)).decode()
        session = secrets.token_hex(8)
        sessions[session] = name
        await answer(send, name, (b"set-cookie", b"session=" + session.encode()))
        return
    cookie = SimpleCookie(dict(scope["headers"]).get(b"cookie", b"").decode())
    found = cookie.get("session")
    await answer(send, sessions.get(found.value) if found else None)


async def paying(scope, receive, send):
    """Pays whenever it is asked to."""
    if scope["method"] == "POST":
        query("insert into payments values (?, ?)", "", int(await body_of(receive)))
    (paid,), = query("select coalesce(sum(cents), 0) from payments")
    await answer(send, {"paid": paid})
'''

TESTS = '''
import os

import pytest
import shop


@pytest.fixture(autouse=True)
def database():
    shop.prepare()
    yield
    os.unlink(shop.DATABASE)


def insist(client, path, **options):
    """Sends a request until somebody says that it was executed."""
    for _ in range(5):
        response = client.post(path, **options)
        if response.status_code != 500:
            return response
    raise AssertionError("no answer")


def test_safe(trickles_client):
    client = trickles_client(shop.safe, kill_every=3)
    for name in ("ada", "bob", "eve"):
        insist(client, "/visit", content=name)
    for number in range(4):
        insist(client, "/pay", content="100", headers={"idempotency-key": str(number)})
    assert client.get("/").json() == {"visits": 3, "paid": 400}


def test_counter(trickles_client):
    client = trickles_client("shop:counting", loss=0)
    assert [client.get("/").json() for _ in range(6)] == [1, 2, 3, 4, 5, 6]


def test_session(trickles_client):
    client = trickles_client(shop.remembering)
    client.post("/login", content="ada")
    assert [client.get("/me").json() for _ in range(6)] == ["ada"] * 6


def test_payment(trickles_client):
    client = trickles_client(shop.paying, kill_every=2)
    client.get("/")
    insist(client, "/pay", content="100")
    assert client.get("/").json() == {"paid": 100}
'''
