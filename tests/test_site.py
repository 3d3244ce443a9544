"""What the site is made of, and what its pages must not load. `make docs` builds it, strictly."""

from __future__ import annotations

import pytest
import yaml

from docs.site import address, foreign, linked_from, pages_of
from tests.documents import DOCUMENTS, ROOT


def test_every_page_is_in_the_navigation() -> None:
    # What follows names a function of Python's, which a safe reader refuses.
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\ntheme:")[0]
    pages = list(pages_of(yaml.safe_load(text)["nav"]))
    assert set(DOCUMENTS) - {"README.md"} <= set(pages)
    assert len({address(page) for page in pages}) == len(pages)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("docs/index.md", "index.html"),
        ("docs/options.md", "options/index.html"),
        ("deploy/README.md", "deploy/index.html"),
        ("trickles_web/SECURITY.md", "security/index.html"),
        ("deploy/nginx.conf", None),
    ],
)
def test_where_a_file_is_on_the_site(source: str, where: str | None) -> None:
    assert address(source) == where


def test_what_a_page_links_to_is_on_the_site_too() -> None:
    assert {"deploy/nginx.conf", "deploy/trickles.service"} <= set(linked_from("deploy/README.md"))
    assert "docs/life-of-a-packet.svg" in linked_from("docs/how-it-works.md")
    assert "loadtest/results/requests.png" in linked_from("loadtest/RESULTS.md")


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a/b.js"></script>',
        '<img alt="" src=" //a/b.png">',
        '<img srcset="b.png, https://a/b.png 2x">',
        '<link rel="stylesheet" href="http://a/b.css">',
        '<link rel=preconnect href="https://a">',
        '<p style="background: url(https://a/b)">',
        '<svg><use href="https://a/b#c"/><image href="https://a/b"/></svg>',
        '<style>@import "https://a/b.css";</style>',
        "body { src: url( '//a/b' ) }",
    ],
)
def test_what_a_page_would_load_from_elsewhere(text: str) -> None:
    assert foreign(text)


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://a/">a</a>',
        '<script src="../b.js"></script><img src="b.svg" srcset="b.png 2x">',
        '<svg xmlns="http://www.w3.org/2000/svg"><path d=""/></svg>',
        "body { src: url(b.woff2) }",
    ],
)
def test_what_it_may_have(text: str) -> None:
    assert not foreign(text)
