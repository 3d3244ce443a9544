from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from trickles_web.errors import UsageError
from trickles_web.http.parsers import ParseWithHttptools, parse_with_h11, parser


@pytest.fixture
def chosen_anew() -> Iterator[None]:
    parser.cache_clear()
    yield
    parser.cache_clear()


def test_httptools_where_it_is_installed() -> None:
    assert isinstance(parser("auto"), ParseWithHttptools)
    assert isinstance(parser("httptools"), ParseWithHttptools)
    assert parser("h11") is parse_with_h11


@pytest.mark.usefixtures("chosen_anew")
def test_h11_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)  # what `import` takes for not installed
    assert parser("auto") is parse_with_h11
    with pytest.raises(UsageError, match=r"--http httptools: pip install 'trickles-web\[speed\]'"):
        parser("httptools")


def test_no_other() -> None:
    with pytest.raises(UsageError, match="--http nginx: give one of auto, h11, httptools"):
        parser("nginx")
