"""What README and documentation tell a reader to type, and what it is made of."""

from __future__ import annotations

import ast
import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATHS = ("README.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")), "deploy/README.md")
DOCUMENTS = {path: (ROOT / path).read_text(encoding="utf-8") for path in PATHS}
"""Texts by their paths. Others of the site, such as the protocol, have nothing to type."""
README, OPTIONS = DOCUMENTS["README.md"], DOCUMENTS["docs/options.md"]
EVERYTHING = "\n".join(DOCUMENTS.values())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS: dict[str, str] = PROJECT["scripts"]

Command = tuple[str, ...]


def blocks(language: str, text: str = EVERYTHING) -> list[str]:
    """Contents of the fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str = EVERYTHING) -> list[str]:
    """Lines for a shell: those after `$ ` in console blocks, all in sh blocks; `\\` joins lines."""
    joined = [block.replace("\\\n", " ") for block in blocks("console", text)]
    lines = [line[2:] for block in joined for line in block.splitlines() if line.startswith("$ ")]
    for block in blocks("sh", text):
        lines += block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def title(example: str) -> str:
    """The line of an example in Python that it is called by: the first that is ours, or a `def`."""
    return next(line for line in example.splitlines() if re.match(r"from trickles|def ", line))


def example(called: str) -> str:
    """The one example in Python of this title."""
    [found] = [block for block in blocks("python") if title(block) == called]
    return found


def commands(text: str = EVERYTHING) -> list[Command]:
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


def links(path: str) -> list[str]:
    """The files that a text of the repository links to, as it names them."""
    return re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / path).read_text(encoding="utf-8"))


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


def is_test(named: str) -> bool:
    """Whether a file of tests, or `FILE::FUNCTION`, is there."""
    file, _, function = named.partition("::")
    if not (ROOT / file).is_file():
        return False
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    return not function or function in functions
