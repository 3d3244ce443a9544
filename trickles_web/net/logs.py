"""Logging as a uvicorn user knows it: the same lines, under loggers of our own.

`trickles.error` is what the server says of itself (stderr), `trickles.access` one line per exchange
(stdout), its arguments (client, method, target, HTTP version, status). Whoever passes a logging
configuration of their own finds the same three names.
"""

from __future__ import annotations

import copy
import http
import json
import logging
import logging.config
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from trickles_web.errors import UsageError

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

ACCESS_FORMATS: Final = {"uvicorn": "AccessFormatter", "json": "JsonAccessFormatter"}
"""What makes lines of the access log."""

_LEVEL_COLOURS = {
    logging.DEBUG: 36,  # cyan
    logging.INFO: 32,  # green
    logging.WARNING: 33,  # yellow
    logging.ERROR: 31,  # red
    logging.CRITICAL: 91,  # bright red
}
_STATUS_COLOURS = {1: 97, 2: 32, 3: 33, 4: 31, 5: 91}
_BOLD = 1


def _styled(text: str, code: int | None) -> str:
    return text if code is None else f"\033[{code}m{text}\033[0m"


class LevelFormatter(logging.Formatter):
    """`INFO:     message`, the level coloured on a terminal."""

    stream = "stderr"

    def __init__(self, fmt: str | None = None, use_colors: bool | None = None) -> None:
        terminal: bool = getattr(sys, self.stream).isatty()
        self.use_colors = terminal if use_colors is None else use_colors
        super().__init__(fmt)

    def style(self, text: str, code: int | None) -> str:
        return _styled(text, code) if self.use_colors else text

    def formatMessage(self, record: logging.LogRecord) -> str:
        shown = copy.copy(record)
        level = self.style(record.levelname, _LEVEL_COLOURS.get(record.levelno))
        shown.levelprefix = f"{level}:" + " " * max(0, 8 - len(record.levelname))
        self.add_fields(shown)
        return super().formatMessage(shown)

    def add_fields(self, record: logging.LogRecord) -> None:
        """For subclasses: what else the format refers to."""


class AccessFormatter(LevelFormatter):
    """`INFO:     127.0.0.1:40000 - "GET / HTTP/1.1" 200 OK`."""

    stream = "stdout"

    def add_fields(self, record: logging.LogRecord) -> None:
        client, method, target, version, status = record.args  # type: ignore[misc]
        record.client_addr = client
        record.request_line = self.style(
            f"{method} {target} HTTP/{version}", _BOLD if self.use_colors else None
        )
        record.status_code = self._status(int(str(status)))

    def _status(self, status: int) -> str:
        try:
            text = f"{status} {http.HTTPStatus(status).phrase}"
        except ValueError:
            text = f"{status} "
        return self.style(text, _STATUS_COLOURS.get(status // 100))


class JsonAccessFormatter(AccessFormatter):
    """An object a line, with what only the end of a response tells, if the record knows it."""

    def format(self, record: logging.LogRecord) -> str:
        client, method, target, version, status = record.args  # type: ignore[misc]
        path, _, query = str(target).partition("?")
        when = datetime.fromtimestamp(record.created, UTC)
        told = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "client": client,
            "method": method,
            "path": path,
            "query": query,
            "http_version": version,
            "status": int(str(status)),
            "bytes": getattr(record, "bytes", None),
            "duration_ms": getattr(record, "duration_ms", None),
            "pid": record.process,
        }
        return json.dumps(told)


def logging_config(
    level: str = "info", use_colors: bool | None = None, access_format: str = "uvicorn"
) -> dict[str, Any]:
    """For `logging.config.dictConfig`. `level` is a key of LEVELS, `access_format` of
    ACCESS_FORMATS.
    """
    number = LEVELS[level]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "default": {
                "()": "trickles_web.net.logs.LevelFormatter",
                "fmt": "%(levelprefix)s %(message)s",
                "use_colors": use_colors,
            },
            "access": {
                "()": f"trickles_web.net.logs.{ACCESS_FORMATS[access_format]}",
                "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
                "use_colors": use_colors,
            },
        },
        "handlers": {
            "default": {
                "formatter": "default",
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
            },
            "access": {
                "formatter": "access",
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
            },
        },
        "loggers": {
            "trickles": {"handlers": ["default"], "level": number, "propagate": False},
            "trickles.error": {"level": number},
            "trickles.access": {"handlers": ["access"], "level": number, "propagate": False},
        },
    }


def configure(
    level: str | None = None,
    use_colors: bool | None = None,
    config: dict[str, Any] | str | None = None,
    access_format: str = "uvicorn",
) -> None:
    """config: a configuration of the user's own, or the file that has it (.json, .yaml, .yml, or
    .ini); `level` counts beside it if it is given, `access_format` (of ACCESS_FORMATS) does not.

    Raises UsageError.
    """
    if config is None:
        logging.config.dictConfig(logging_config(level or "info", use_colors, access_format))
        return
    try:
        _configure(config, use_colors)
    except (ValueError, KeyError, RuntimeError, OSError, ImportError) as error:
        name = config if isinstance(config, str) else "that"
        cause = error.__cause__ or error
        raise UsageError(f"--log-config {name}: {cause}") from None
    if level is not None:
        for name in ("trickles", "trickles.error", "trickles.access"):
            logging.getLogger(name).setLevel(LEVELS[level])


def _configure(config: dict[str, Any] | str, use_colors: bool | None) -> None:
    if isinstance(config, dict):
        found = copy.deepcopy(config)
    elif config.endswith(".json"):
        found = json.loads(Path(config).read_text())
    elif config.endswith((".yaml", ".yml")):
        found = _yaml(Path(config).read_text())
    else:
        if not Path(config).is_file():
            raise OSError("no such file")
        logging.config.fileConfig(config, disable_existing_loggers=False)
        return
    if use_colors is not None:
        for formatter in found.get("formatters", {}).values():
            if "use_colors" in formatter:
                formatter["use_colors"] = use_colors
    logging.config.dictConfig(found)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError("YAML needs pip install 'trickles-web[standard]'") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
