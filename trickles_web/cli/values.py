"""Values of options: from the command line, and from a project's file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from trickles_web.errors import UsageError
from trickles_web.http.request import check_globs

PROJECT_FILE: Final = "pyproject.toml"
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def bytes(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """`16M` and the like, multiples of 1024."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", str(text).strip().upper())
    if match is None:
        raise click.BadParameter(f"{text!r}: give bytes, such as 500000, 16M or 2G")
    return int(match[1]) * _UNITS[match[2]]


def host(context: click.Context, option: click.Parameter, text: str) -> str:
    """An IPv6 address may stand in brackets, as it does in URLs and in our own log."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def globs(
    context: click.Context, option: click.Parameter, globs: tuple[str, ...]
) -> tuple[str, ...]:
    """Patterns that some path can match."""
    try:
        check_globs(globs)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return globs


def headers(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[str, str]]:
    """NAME:VALUE."""
    for text in texts:
        if ":" not in text:
            raise click.BadParameter(f"{text!r}: give NAME:VALUE")
    return [(name.strip(), value.strip()) for name, _, value in (t.partition(":") for t in texts)]


def of_project(file: Path, parameters: Iterable[click.Parameter]) -> dict[str, Any]:
    """The table [tool.trickles] of a pyproject.toml, by the parameters' names.

    Raises UsageError.
    """
    if not file.is_file():
        return {}
    try:
        table = tomllib.loads(file.read_text()).get("tool", {}).get("trickles", {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from None
    names = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in parameters
        for option in (*parameter.opts, parameter.name or "")
    }
    found = {}
    for key, value in table.items():
        name = names.get(key.replace("-", "_"))
        if name is None or name in ("version", "help"):
            raise UsageError(f"{file}, [tool.trickles]: there is no option {key}")
        found[name] = value
    return found
