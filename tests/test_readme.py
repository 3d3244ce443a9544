"""The README's commands, options, imports and links exist. Running them is up to the live tests."""

from __future__ import annotations

import ast
import functools
import importlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]["scripts"]

Command = tuple[str, ...]


def blocks(language: str, text: str = README) -> list[str]:
    """Contents of the fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str = README) -> list[str]:
    """Lines for a shell: those after `$ ` in console blocks, all in sh blocks; `\\` joins lines."""
    joined = [block.replace("\\\n", " ") for block in blocks("console", text)]
    lines = [line[2:] for block in joined for line in block.splitlines() if line.startswith("$ ")]
    for block in blocks("sh", text):
        lines += block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def commands(text: str = README) -> list[Command]:
    """Each simple command as its words: pipelines are cut, variables and `.venv/bin/` left out."""
    found = []
    for line in command_lines(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in {"|", "||", "&&", ";", "&"}:
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    found.append((words[0].removeprefix(".venv/bin/"), *words[1:]))
                words = []
            else:
                words.append(word)
    return found


def options_of(command: Command) -> set[str]:
    words: Iterable[str] = command
    if command[0] == "trickles-run":  # the others are of the program that it runs
        words = itertools.takewhile(lambda word: word.startswith("-"), command[1:])
    return {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}


@functools.cache
def offered(script: str) -> frozenset[str]:
    """The options that the help of one of our commands names."""
    module, attribute = SCRIPTS[script].split(":")
    start = f"import sys; from {module} import {attribute}; sys.exit({attribute}())"
    done = subprocess.run(
        [sys.executable, "-c", start, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


OURS = [command for command in commands() if command[0].startswith("trickles-")]
MAKES = [command for command in commands() if command[0] == "make"]


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_our_commands_and_their_options_exist(command: Command) -> None:
    assert command[0] in SCRIPTS
    assert options_of(command) <= offered(command[0])


def test_every_command_of_ours_is_shown() -> None:
    assert {command[0] for command in OURS} == set(SCRIPTS)


def test_options_of_the_table_exist() -> None:
    section = README.partition("## Options of trickles-serve")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = {option for row in rows for option in re.findall(r"`(--[\w-]+)", row.split(" | ")[0])}
    assert len(rows) <= len(named)
    assert named <= offered("trickles-serve")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("command", MAKES, ids=" ".join)
def test_make_targets_exist(command: Command) -> None:
    # The environment of an outer `make test` would have this one print and behave differently.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        [*command, "--dry-run"], cwd=ROOT, env=outside, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_imports_of_the_examples_exist() -> None:
    imports = [
        (node.module, alias.name)
        for block in blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert imports
    for module, name in imports:
        assert module is not None
        assert hasattr(importlib.import_module(module), name), f"from {module} import {name}"


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_linked_files_exist(target: str) -> None:
    assert (ROOT / target).is_file()


def test_paths_of_the_layout_exist() -> None:
    section = README.partition("## Layout")[2].partition("\n## ")[0]
    paths = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_commands_are_found_as_a_reader_finds_them() -> None:
    text = (
        "```console\n$ A=1 .venv/bin/trickles-get -o x \\\n  --limit-rate=1M y | sum -c\nout\n```\n"
        "```sh\n# remark\nmake serve && make test\n```\n"
    )
    assert commands(text) == [
        ("trickles-get", "-o", "x", "--limit-rate=1M", "y"),
        ("sum", "-c"),
        ("make", "serve"),
        ("make", "test"),
    ]
    assert options_of(commands(text)[0]) == {"-o", "--limit-rate"}
    assert options_of(("trickles-run", "--only=a", "-q", "curl", "-s")) == {"--only", "-q"}
