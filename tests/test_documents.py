"""Commands, options, imports, links and figures of README and documentation exist.

Running the commands is up to the live tests.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess

import pytest

from tests.documents import (
    DOCUMENTS,
    EVERYTHING,
    OPTIONS,
    PROJECT,
    README,
    ROOT,
    SCRIPTS,
    Command,
    blocks,
    command_lines,
    commands,
    example,
    links,
    offered,
    options_of,
    title,
)

OURS = sorted({command for command in commands() if command[0].startswith("trickles-")})
MAKES = sorted({command for command in commands() if command[0] == "make"})
LANGUAGES = {"console", "sh", "python"}
"""Of blocks: what a reader types or copies, so that it is run. Output stands in console blocks."""


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_our_commands_and_their_options_exist(command: Command) -> None:
    assert command[0] in SCRIPTS
    assert options_of(command) <= offered(command[0])


def test_every_command_of_ours_is_shown() -> None:
    assert {command[0] for command in OURS} == set(SCRIPTS)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_blocks_are_of_languages_that_are_run(path: str) -> None:
    fences = re.findall(r"^ *```(.*)$", DOCUMENTS[path], re.MULTILINE)
    assert set(fences[::2]) <= LANGUAGES and set(fences[1::2]) <= {""}


def test_options_of_the_table_exist() -> None:
    section = OPTIONS.partition("# Options of trickles-serve")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = {option for row in rows for option in re.findall(r"`(--[\w-]+)", row.split(" | ")[0])}
    assert 0 < len(rows) <= len(named)
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


def test_extras_exist() -> None:
    installs = [line for line in command_lines() if "pip install" in line]
    named = {one for line in installs for one in re.findall(r"[\w,]+(?=\])", line)}
    named |= set(re.findall(r"extra `(\w+)`", EVERYTHING))
    assert {extra for one in named for extra in one.split(",")} <= set(
        PROJECT["optional-dependencies"]
    )


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


@pytest.mark.parametrize("path", DOCUMENTS)
def test_linked_files_exist(path: str) -> None:
    folder = (ROOT / path).parent
    assert [target for target in links(path) if not (folder / target).is_file()] == []


def test_every_page_is_linked_from_the_readme() -> None:
    pages = {path for path in DOCUMENTS if path != "README.md"}
    assert pages <= set(links("README.md"))


def test_paths_of_the_layout_exist() -> None:
    section = README.partition("## Layout")[2].partition("\n## ")[0]
    paths = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_figures_of_the_comparison_are_measured_ones() -> None:
    """Those of four digits and more: who measures anew has to tell them anew."""
    text = DOCUMENTS["docs/comparison.md"]
    results = (ROOT / "loadtest" / "RESULTS.md").read_text(encoding="utf-8")
    figures = set(re.findall(r"\b\d{1,3}(?:,\d{3})+\b", text))
    assert len(figures) > 10
    assert [figure for figure in figures if not re.search(rf"\b{figure}\b", results)] == []


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


def test_examples_are_found_by_their_titles() -> None:
    titles = [title(block) for block in blocks("python")]
    assert len(set(titles)) == len(titles)
    assert all(title(example(called)) == called for called in titles)
