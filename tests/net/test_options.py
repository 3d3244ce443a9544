"""Options that uvicorn has, too: from the command line, files, and the environment."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from uvicorn.main import main as uvicorn_command

import trickles_web
from tests.documents import OPTIONS
from tests.net.processes import serving
from tests.net.test_serve import get
from trickles_web.cli.serve import main, serve
from trickles_web.cli.values import of_project
from trickles_web.config import HttpConfig
from trickles_web.errors import UsageError
from trickles_web.net import logs
from trickles_web.net.options import Config

OTHERWISE = {
    "http": "it has other parsers",
    "ws": "it has other implementations",
    "ws_max_size": "16M",
    "timeout_graceful_shutdown": "it waits for ever",
    "log_level": "it has trace",
    "loop": "it has another one",
}
"""Options whose choices or defaults are others than uvicorn's, and why."""


def parameters(command: click.Command) -> dict[str, click.Parameter]:
    """By their first names, without the dashes."""
    return {p.opts[0].lstrip("-").replace("-", "_"): p for p in command.params}


def defaults(command: click.Command, name: str) -> tuple[object, bool]:
    """The default, and whether there may be several."""
    parameter = parameters(command)[name]
    default = parameter.get_default(click.Context(command))
    told = default if isinstance(default, (str, int, float)) else None  # else: unset
    return told or None, getattr(parameter, "multiple", False)


def absent() -> set[str]:
    """Options in the documentation's table of those that there are no reasons for here."""
    rows = OPTIONS.partition("| uvicorn's option | why it is not here |")[2].partition("\n\n")[0]
    return {name.replace("-", "_") for name in re.findall(r"`--([a-z0-9-]+)`", rows)}


def test_every_option_of_uvicorn_is_here_or_said_not_to_be() -> None:
    ours, theirs = parameters(serve), parameters(uvicorn_command)
    assert absent() == set(theirs) - set(ours)
    for name in sorted(set(ours) & set(theirs) - set(OTHERWISE)):
        mine, other = defaults(serve, name), defaults(uvicorn_command, name)
        assert mine == other, name
        assert type(ours[name].type) is type(theirs[name].type) or not isinstance(
            theirs[name].type, click.Choice
        ), name


def test_every_option_is_in_the_documentation() -> None:
    table = OPTIONS.partition("# Options of trickles-serve")[2].partition("\n## ")[0]
    for parameter in serve.params:
        if isinstance(parameter, click.Option) and parameter.name != "version":
            assert f"`{parameter.opts[0]}" in table, parameter.opts[0]


def test_what_options_make_of_the_http_layer() -> None:
    config = Config(
        app="a:b",
        headers=[("X-One", "1"), ("Server", "mine")],
        date_header=False,
        limit_concurrency=7,
        h11_max_incomplete_event_size=999,
    ).http_config()
    assert config.headers == ((b"x-one", b"1"), (b"server", b"mine"))
    assert (config.server_header, config.date_header) == (False, False)
    assert (config.max_running, config.max_head_bytes) == (7, 999)
    plain = Config(app="a:b").http_config()
    assert (plain.headers, plain.server_header, plain.date_header) == ((), True, True)
    assert plain.max_running == HttpConfig().max_running


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("workers", 0, "--workers 0: at least 1"),
        ("threads", 0, "--threads 0: at least 1"),
        ("limit_concurrency", 0, "--limit-concurrency 0: at least 1"),
        ("limit_max_requests", -1, "--limit-max-requests -1: at least 1"),
        ("timeout_worker_healthcheck", 0.5, "--timeout-worker-healthcheck 0.5: at least 1"),
        ("without", ["gpu"], "--without gpu: one of gso, gro"),
        ("headers", [("a b", "1")], "--header a b:1: it cannot be a header of every response"),
        ("headers", [("a", "1\r\nb: 2")], "cannot be a header"),
        ("headers", [("Content-Length", "2")], "cannot be a header"),
        ("env_file", "/no/such/file", "--env-file /no/such/file: no such file"),
    ],
)
def test_values_that_cannot_be(option: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Config(app="a:b", **{option: value})


WRONG = {
    "--static": "",
    "--store": "nowhere",
    "--peer": "127.0.0.1:0",
    "--forwarded-allow-ips": "300.1.1.1",
    "--header": "no colon",
    "--ws-max-size": "16Q",
    "--limit-request-body": "-1",
    "--h11-max-incomplete-event-size": "0",
    "--never-rerun": "x",
    "--preferred-address": "somewhere:1",
    "--root-path": "/ä",
    "--env-file": "/no/such/file",
    "--ssl-certfile": "/no/such/file",
    "--ssl-keyfile": "/no/such/file",
}
"""Values of options that take any text. Some more fail only when it begins: those are in
`test_serve_errors`."""
BEGINS_WITH = {
    *("--host", "--gateway", "--secret-file", "--app-dir", "--log-config", "--reload-dir"),
    *("--reload-include", "--reload-exclude"),
}


@pytest.mark.parametrize("option", [p for p in serve.params if isinstance(p, click.Option)])
def test_a_wrong_value_is_one_line_and_code_2(
    option: click.Option, capsys: pytest.CaptureFixture[str]
) -> None:
    name = option.opts[0]
    if name in BEGINS_WITH:
        return
    words = [name] if option.is_flag else [name, WRONG.get(name, "nonsense")]
    if option.is_flag:
        words = [f"{name}=yes"]
    assert main(["apps.hello:app", *words] if name != "--static" else words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Error: ") and shown.err.count("\n") == 1
    assert name in shown.err


def test_reloading_is_for_one_worker_and_a_name() -> None:
    with pytest.raises(UsageError, match="--reload is for one worker"):
        Config(app="a:b", reload=True, workers=2)
    with pytest.raises(UsageError, match="MODULE:ATTRIBUTE"):
        Config(app=lambda: None, reload=True)


def test_the_number_of_workers_may_be_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert Config(app="a:b").count == 3
    assert Config(app="a:b", workers=2).count == 2
    assert Config(app="a:b", reload=True).count == 1
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(UsageError, match=r"\$WEB_CONCURRENCY is 'many': give a number"):
        Config(app="a:b")


def test_an_environment_file_sets_what_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("WEB_CONCURRENCY=5\nOPTIONS_TEST=file\nOPTIONS_TEST_SET=file\n")
    for name in ("WEB_CONCURRENCY", "OPTIONS_TEST"):  # restored afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPTIONS_TEST_SET", "before")
    assert Config(app="a:b", env_file=str(file)).count == 5
    assert (os.environ["OPTIONS_TEST"], os.environ["OPTIONS_TEST_SET"]) == ("file", "before")


def test_a_configuration_reaches_a_worker_as_it_is() -> None:
    config = Config(app="a:b", headers=[("a", "b")], store="redis://:password@h", rerun="never")
    again = Config.from_json(config.to_json())
    assert again.http_config() == config.http_config()
    assert (again.store, again.app) == (config.store, config.app)
    assert "password" not in repr(again)
    with pytest.raises(UsageError, match="workers are told in JSON"):
        Config(app="a:b", log_config={"stream": object()}).to_json()


def test_a_table_of_the_project(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    assert of_project(file, serve.params) == {}
    file.write_text("[project]\nname = 'x'\n")
    assert of_project(file, serve.params) == {}
    file.write_text("[tool.trickles]\napp = 'a:b'\nlog-level = 'debug'\nheader = ['a:b']\n")
    found = of_project(file, serve.params)
    assert found == {"app": "a:b", "log_level": "debug", "headers": ["a:b"]}
    for text, said in (
        ("[tool.trickles]\nprot = 1", "there is no option prot"),
        ("[tool.trickles]\nversion = true", "there is no option version"),
        ("[tool.trickles", "pyproject.toml: "),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=said):
            of_project(file, serve.params)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "OWN %(name)s %(levelname)s %(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "own.log"}},
    "loggers": {"trickles": {"level": "INFO", "handlers": ["file"]}},
}
INI = """
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=
[logger_root]
level=INFO
handlers=file
[handler_file]
class=FileHandler
args=("own.log",)
"""
SHOWS = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not supported")
    body = os.environ["SHOWN"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.live
@pytest.mark.parametrize("kind", ["json", "yaml", "ini"])
def test_a_project_with_files_for_everything(tmp_path: Path, kind: str) -> None:
    (tmp_path / "shows.py").write_text(SHOWS)
    (tmp_path / ".env").write_text("SHOWN=from the file\n")
    log = tmp_path / f"log.{kind}"
    log.write_text(INI if kind == "ini" else json.dumps(LOGGING))  # JSON is YAML, too
    (tmp_path / "pyproject.toml").write_text(
        "[tool.trickles]\n"
        'app = "shows:app"\nport = 0\nworkers = 2\nenv-file = ".env"\n'
        f'log_config = "{log.name}"\nserver-header = false\nheader = ["X-Own: 2", "X-Own: 3"]\n'
    )
    own = tmp_path / "own.log"
    own.touch()
    with serving(tmp_path, environment={"TRICKLES_DATE_HEADER": "0"}) as server:
        server.until(lambda: "Trickles running on" in own.read_text())
        found = re.search(r"trickles://127\.0\.0\.1:(\d+) ", own.read_text())
        assert found is not None
        head, _, body = get(int(found[1])).partition(b"\r\n\r\n")
        assert body.endswith(b"from the file\r\n0\r\n\r\n") or body == b"from the file"
        lines = head.split(b"\r\n")[1:]
        assert lines[:3] == [b"x-own: 2", b"x-own: 3", b"x-app: 1"]
        assert b"server:" not in head and b"date:" not in head
        assert server.end() == 0
        assert server.stderr == ""


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("log.json", "{", "log.json: "),
        ("log.yaml", "a: [", "log.yaml: "),
        ("log.json", '{"version": 3}', "log.json: "),
        ("log.ini", "", "log.ini: "),
        ("none.ini", None, "no such file"),
        ("none.json", None, "No such file"),
    ],
)
def test_logging_configurations_that_are_none(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=said) as raised:
        logs.configure(config=str(file))
    assert "\n" not in str(raised.value)


def test_a_level_counts_beside_a_configuration() -> None:
    logs.configure("error", config={"version": 1, "disable_existing_loggers": False})
    for name in ("trickles.error", "trickles.access"):
        assert logging.getLogger(name).level == logging.ERROR


@pytest.mark.live
def test_it_serves_without_what_linux_offers(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text(SHOWS)
    without = [f"--without={name}" for name in ("gso", "gro", "steering", "tmpfs", "pdeathsig")]
    environment = {"SHOWN": "all the same", "TMPDIR": str(tmp_path)}
    arguments = ("shows:app", "--port", "0", "--workers", "2", *without)
    with serving(tmp_path, *arguments, environment=environment) as server:
        port = server.port()
        for _ in range(10):
            assert b"all the same" in get(port)
        assert list(tmp_path.glob("trickles-web-*")), "the store is on a disk"
        assert server.end() == 0


EMBEDDED = """
import asyncio, sys
import trickles_web
from shows import app

async def main():
    config = trickles_web.Config(app=app, port=0, log_level="warning")
    server = trickles_web.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(f"running on trickles://127.0.0.1:{server.address[1]} ", file=sys.stderr, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving

asyncio.run(main())
"""


@pytest.mark.live
def test_within_a_loop_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text(SHOWS)
    (tmp_path / "embedded.py").write_text(EMBEDDED)
    reading, writing = os.pipe()
    environment = {"SHOWN": "embedded"}
    with serving(
        tmp_path, environment=environment, module=("embedded.py",), stdin=reading
    ) as server:
        os.close(reading)
        assert b"embedded" in get(server.port())
        os.close(writing)
        assert server.process.wait(30) == 0


def test_the_programs_names() -> None:
    assert trickles_web.Config is Config
    assert {"Config", "Server", "run"} <= set(dir(trickles_web))
    with pytest.raises(AttributeError, match="no attribute 'serve'"):
        trickles_web.serve  # noqa: B018
