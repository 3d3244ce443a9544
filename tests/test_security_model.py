"""The security model names tests: they are there."""

from __future__ import annotations

import re

from tests.documents import ROOT, is_test

MODEL = ROOT / "trickles_web" / "SECURITY.md"


def test_every_test_that_the_security_model_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", MODEL.read_text(encoding="utf-8"))
    assert len(named) > 20
    assert [one for one in named if not is_test(one)] == []


def test_what_does_not_exist_is_noticed() -> None:
    here = "tests/test_security_model.py"
    assert is_test(here) and not is_test("tests/no_such_file.py")
    assert is_test(f"{here}::test_what_does_not_exist_is_noticed")
    assert not is_test(f"{here}::no_such_function")
