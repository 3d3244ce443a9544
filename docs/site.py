"""What mkdocs makes the site of, and a look at what became of it: `make docs`.

The site's sources have the paths that they have in the repository, those outside of docs/ too. So
there is one text of each, where it belongs, and a relative link leads to the same place on the
site as to who reads it in a clone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
"""The file that a link in Markdown leads to, if it is a relative one."""
LOADED = {
    "href": {"image", "link", "use"},
    "src": {"audio", "embed", "iframe", "img", "script", "source", "video"},
    "srcset": {"img", "source"},
    "data": {"object"},
}
"""Tags for which a browser loads by itself what is in the attribute."""
ELSEWHERE = re.compile(r"(?:^|[\s,])((?:https?:)?//[^\s,]+)", re.IGNORECASE)
IMPORTED = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^\s"')]+)""", re.IGNORECASE)
"""The same in CSS."""


def pages_of(nav: Any) -> Iterator[str]:
    """The paths in a navigation, however nested."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(part)


def linked_from(page: str) -> Iterator[str]:
    """The files of the repository that a page links to, by their paths in it."""
    folder = (ROOT / page).parent
    for target in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        path = (folder / target).resolve()
        if path.is_file() and path.is_relative_to(ROOT):
            yield path.relative_to(ROOT).as_posix()


def address(source: str) -> str | None:
    """Where a page is on the site: below its own name. None: where it is in the repository."""
    path = Path(source)
    if path.suffix != ".md":
        return None
    name = path.parent.name if path.name == "README.md" else path.stem.lower()
    return "index.html" if name == "index" else f"{name}/index.html"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of the navigation and what they link to, in place of the contents of docs/."""
    found = [file for file in files if file.src_dir != config.docs_dir]
    pages = list(pages_of(config.nav))
    linked = {target for page in pages for target in linked_from(page)}
    for source in [*pages, *sorted(linked - set(pages))]:
        to = address(source)
        found.append(File(source, str(ROOT), config.site_dir, True, dest_uri=to))
    return Files(found)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if tag in LOADED.get(name, ()):
                self.found += ELSEWHERE.findall(value or "")


def foreign(text: str) -> list[str]:
    """What a page would load from elsewhere: addresses in HTML, and in CSS wherever it stands."""
    loads = _Loads()
    loads.feed(text)
    return loads.found + IMPORTED.findall(text)


def on_post_build(config: MkDocsConfig) -> None:
    """Raises PluginError if a page or a style sheet loads something from elsewhere."""
    site = Path(config.site_dir)
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]):
        if addresses := foreign(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path} loads {addresses[0]}: take a copy of it into docs/")
