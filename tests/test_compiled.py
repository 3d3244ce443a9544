"""The list of modules that are compiled on request, and that either all of them are, or none."""

from __future__ import annotations

import importlib
import pkgutil

import hatch_build
import trickles_web

LISTED = [
    ".".join((hatch_build.PACKAGE, *folder.split("/"), name))
    for folder, names in hatch_build.COMPILED.items()
    for name in names
]


def test_no_module_is_listed_twice() -> None:
    assert len(set(LISTED)) == len(LISTED)


def test_all_that_is_listed_is_compiled_or_nothing_is() -> None:
    """An extension that was left behind would be loaded in place of its module."""
    found = pkgutil.walk_packages(trickles_web.__path__, "trickles_web.")
    names = {module.name for module in found if not module.name.endswith("__main__")}
    assert names >= set(LISTED)
    files = {name: str(importlib.import_module(name).__file__) for name in names}
    compiled = {name for name, file in files.items() if not file.endswith(".py")}
    assert compiled in (set(), set(LISTED))
