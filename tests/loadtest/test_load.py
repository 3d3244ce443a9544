"""What load generators print, and the application that they ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loadtest import generator, wrk
from loadtest.application import BODY, app, body_of
from loadtest.peers import Server, with_each_parser_and_loop
from loadtest.requests import baselines

PRINTED = """\
Running 2s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.17ms    1.23ms  20.71ms   92.19%
    Req/Sec    20.47k     1.94k   22.42k    95.00%
  Latency Distribution
     50%    2.90ms
     75%    3.13ms
     90%    3.65ms
     99%  812.00us
  40754 requests in 2.00s, 5.79MB read
Requests/sec:  20337.56
Transfer/sec:      2.89MB
"""


def test_what_wrk_prints() -> None:
    assert wrk.parse(PRINTED) == wrk.Result(40754, 5.79 * 2**20, 2.0, 0, 2900.0, 812.0)


def test_errors_that_wrk_saw_are_counted() -> None:
    more = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
    assert wrk.parse(PRINTED.replace("Requests/sec", more + "Requests/sec")).errors == 4321
    more = "  Non-2xx or 3xx responses: 17\n"
    assert wrk.parse(PRINTED.replace("Requests/sec", more + "Requests/sec")).errors == 17


def test_a_wrk_that_did_not_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_wrk_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="apt-get install wrk"):
        wrk.command("http://127.0.0.1/")


def test_what_the_generator_prints() -> None:
    assert generator.parse('a warning\n{"requests": 5,\n "refused": {"8": 2}}\n') == {
        "requests": 5,
        "refused": {"8": 2},
    }
    for printed in ("", "killed", '{"requests": 5,'):
        with pytest.raises(RuntimeError, match="no result"):
            generator.parse(printed)
    assert generator.words(port=8000, mode="get") == ["port=8000", "mode=get"]


def test_ours_are_compared_with_uvicorn_of_the_same_parser_and_loop() -> None:
    servers = [*with_each_parser_and_loop("trickles"), Server("granian")]
    theirs = [Server("uvicorn", "h11", "uvloop"), Server("uvicorn", "httptools", "asyncio")]
    assert baselines([*servers, *theirs]) == {
        "trickles h11 uvloop": "uvicorn h11 uvloop",
        "trickles httptools asyncio": "uvicorn httptools asyncio",
    }


def answered(path: str, *bodies: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of the application's answer."""
    sent: list[dict[str, Any]] = []
    waiting = list(bodies)

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "path": path}, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_the_application() -> None:
    assert answered("/") == (200, answered("/")[1], BODY)
    for size in (0, 1, 256, 1000):
        status, headers, body = answered(f"/bytes/{size}")
        assert status == 200 and len(body) == size and body == body_of(size)
        assert headers[b"content-length"] == str(size).encode()
    assert answered("/sink", b"ab", b"", b"cde")[2] == b"5"
    assert answered("/elsewhere")[0] == 404
