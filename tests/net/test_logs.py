"""Log lines as a uvicorn user knows them."""

from __future__ import annotations

import json
import logging

import pytest

from trickles_web.net.logs import (
    AccessFormatter,
    JsonAccessFormatter,
    LevelFormatter,
    logging_config,
)

FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'


def access(status: int) -> logging.LogRecord:
    return logging.LogRecord(
        "trickles.access",
        logging.INFO,
        __file__,
        1,
        '%s - "%s %s HTTP/%s" %d',
        ("127.0.0.1:4000", "GET", "/a?b", "1.1", status),
        None,
    )


def test_plain_lines() -> None:
    line = AccessFormatter(FORMAT, use_colors=False).format(access(200))
    assert line == 'INFO:     127.0.0.1:4000 - "GET /a?b HTTP/1.1" 200 OK'
    assert AccessFormatter(FORMAT, use_colors=False).format(access(299)).endswith('" 299 ')
    record = logging.LogRecord("trickles.error", logging.WARNING, __file__, 1, "%d", (7,), None)
    assert LevelFormatter("%(levelprefix)s %(message)s", False).format(record) == "WARNING:  7"


@pytest.mark.parametrize(("status", "colour"), [(204, 32), (304, 33), (404, 31), (500, 91)])
def test_colours_by_status(status: int, colour: int) -> None:
    line = AccessFormatter(FORMAT, use_colors=True).format(access(status))
    assert f"\033[{colour}m{status} " in line
    assert line.startswith("\033[32mINFO\033[0m:     127.0.0.1:4000")


def test_without_a_terminal_there_are_no_colours() -> None:
    assert not LevelFormatter(use_colors=None).use_colors  # pytest captures the streams


def test_the_configuration_names_the_loggers_of_the_house() -> None:
    config = logging_config("debug")
    assert set(config["loggers"]) == {"trickles", "trickles.error", "trickles.access"}
    assert config["loggers"]["trickles"]["level"] == logging.DEBUG
    assert config["handlers"]["access"]["stream"] == "ext://sys.stdout"


def test_an_object_a_line() -> None:
    record = access(404)
    record.created, record.process = 1_700_000_000.25, 7
    told = {
        "time": "2023-11-14T22:13:20.250Z",
        "client": "127.0.0.1:4000",
        "method": "GET",
        "path": "/a",
        "query": "b",
        "http_version": "1.1",
        "status": 404,
        "bytes": None,
        "duration_ms": None,
        "pid": 7,
    }
    formatter = JsonAccessFormatter(use_colors=True)
    assert json.loads(formatter.format(record)) == told
    record.bytes, record.duration_ms = 100, 0.5
    line = formatter.format(record)
    assert json.loads(line) == told | {"bytes": 100, "duration_ms": 0.5}
    assert list(json.loads(line)) == list(told)


def test_what_a_client_writes_stays_one_line() -> None:
    record = access(200)
    record.args = ("127.0.0.1:4000", 'G"\n', "/a\n{}?\u2028", "1.1", 200)
    line = JsonAccessFormatter().format(record)
    assert line.isascii() and "\n" not in line
    assert json.loads(line)["query"] == "\u2028"


def test_the_format_of_the_access_log_can_be_chosen() -> None:
    formatters = {
        name: logging_config(access_format=name)["formatters"]["access"]["()"]
        for name in ("uvicorn", "json")
    }
    assert formatters == {
        "uvicorn": "trickles_web.net.logs.AccessFormatter",
        "json": "trickles_web.net.logs.JsonAccessFormatter",
    }
