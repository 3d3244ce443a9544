from __future__ import annotations

from pathlib import Path

import pytest

from trickles_web.errors import AppImportError
from trickles_web.http.importer import import_app


def test_a_dotted_attribute() -> None:
    assert import_app("os.path:join.__call__")("a", "b") == "a/b"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", 'must be in format "<module>:<attribute>"'),
        ("module", 'must be in format "<module>:<attribute>"'),
        (":app", 'must be in format "<module>:<attribute>"'),
        ("no_such_module:app", 'Could not import module "no_such_module"'),
        ("os.no_such_part:app", 'Could not import module "os.no_such_part"'),
        ("os:no_such", 'Attribute "no_such" not found in module "os"'),
        ("os:path.no_such", 'Attribute "path.no_such" not found in module "os"'),
        ("os:sep", "is not callable"),
        (".os:sep", "relative"),
    ],
)
def test_names_of_nothing(name: str, words: str) -> None:
    with pytest.raises(AppImportError) as caught:
        import_app(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_import_error_inside_the_module_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_app("broken_module:app")
