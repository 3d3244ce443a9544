"""What CI makes of pip-audit's report: not to pass unread, nor to fail for a lost network."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit"
GOOD: dict[str, Any] = {"name": "good", "version": "1", "vulns": []}
BAD: dict[str, Any] = {
    "name": "bad",
    "version": "2",
    "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}],
}
SKIPPED: dict[str, Any] = {"name": "skipped", "skip_reason": "not found"}


@pytest.fixture(scope="module")
def audit() -> Any:
    loader = SourceFileLoader("ci_audit", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_a_known_vulnerability_fails(audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.judge([GOOD, BAD, SKIPPED]) == 1
    said = capsys.readouterr().out
    assert "bad 2: CVE-1, fixed in 3" in said
    assert "not audited (not found): skipped" in said


def test_what_is_unknown_is_said_and_passes(audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.judge([SKIPPED]) == 0
    assert "dependencies NOT audited" in capsys.readouterr().out
    assert audit.judge([GOOD, SKIPPED]) == 0
    assert "1 packages audited, 0 with known vulnerabilities" in capsys.readouterr().out
