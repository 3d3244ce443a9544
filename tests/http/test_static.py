"""The files below a directory: what paths lead to, and in which coding."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.tree import CHANGED, DATA, SINCE, ask, etag
from trickles_web.http.progress import Body, decode

# Paths


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        ("/", b"<p>index</p>", "text/html; charset=utf-8"),
        ("/index.html", b"<p>index</p>", "text/html; charset=utf-8"),
        ("/?query=/etc/passwd", b"<p>index</p>", "text/html; charset=utf-8"),
        ("/deep/", b"<p>deep</p>", "text/html; charset=utf-8"),
        ("/linked/", b"<p>deep</p>", "text/html; charset=utf-8"),
        ("/linked/page.html", b"<p>page</p>", "text/html; charset=utf-8"),
        ("/deep/inside", b"0123456789", "application/octet-stream"),
        ("/data.bin", DATA, "application/octet-stream"),
        ("/nothing.txt", b"", "text/plain; charset=utf-8"),
        ("/.well-known/security.txt", b"well", "text/plain; charset=utf-8"),
        ("/%2ewell-known/security.txt", b"well", "text/plain; charset=utf-8"),
        ("/%C3%BC%20und%20%E6%97%A5.txt", b"name", "text/plain; charset=utf-8"),
        ("/a+b%2520c", b"plus", "application/octet-stream"),
        ("/data:text,x.css", b"p {}", "text/css; charset=utf-8"),
        ("/archive.tar.gz", b"tar", "application/gzip"),
        ("/deep%2fpage.html", b"<p>page</p>", "text/html; charset=utf-8"),
        ("//deep///page.html", b"<p>page</p>", "text/html; charset=utf-8"),
        ("/deep/./page.html", b"<p>page</p>", "text/html; charset=utf-8"),
        ("/deep/../digits", b"0123456789", "application/octet-stream"),
        ("/deep/..", b"<p>index</p>", "text/html; charset=utf-8"),
        ("/parent/tree/digits", b"0123456789", "application/octet-stream"),
        ("/strange.txt", b"strange", "text/plain; charset=utf-8"),
    ],
)
def test_what_is_there(root: Path, path: str, body: bytes, content_type: str) -> None:
    got = ask(root, path)
    assert (got.status, got.body) == (200, body)
    assert got.headers["content-type"] == content_type
    assert got.headers["content-length"] == str(len(body))
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["last-modified"] == SINCE
    assert decode(got.progress).kind is Body.FILE
    head = ask(root, path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize(
    "path",
    [
        "/no-such-file",
        "/digits/",
        "/digits/more",
        "/deep/empty/",
        "/deep/empty",
        "/../secret.txt",
        "/..",
        "/../tree/digits",
        "/deep/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/deep/%2e%2e/%2E%2E/secret.txt",
        "/%252e%252e/secret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/\\..\\secret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/%2f%2fetc%2fpasswd",
        "/digits%00",
        "/%00",
        "/digits%00.html",
        "/outside.txt",
        "/parent/secret.txt",
        "/parent/",
        "/parent",
        "/neighbour/secret.txt",
        "/neighbour",
        "/loop",
        "/loop/x",
        "/dangling",
        "/pipe",
        "/socket",
        "/index.html/../index.html/",
        "/" + "x" * 300,
        "/" + "x/" * 3000,
        "/" + "deep/../" * 600,
        "/%ff%fe",
        "/%zz",
        "/.hidden",
        "/%2ehidden",
        "/deep/../.hidden",
        "/.well-known/.hidden",
        "/deep/.well-known/page.html",
        "/~root",
        "http://test/no-such-file",
    ],
)
def test_what_is_not_there(root: Path, path: str) -> None:
    got = ask(root, path)
    assert (got.status, got.body) == (404, b"Not Found")
    assert "etag" not in got.headers
    assert ask(root, path, "Range: bytes=0-0", "If-Match: *", "If-None-Match: *").status == 404


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/deep", "/deep/"),
        ("/deep?a=b&c", "/deep/?a=b&c"),
        ("/linked", "/linked/"),
        ("//deep", "/deep/"),
        ("/x/../%64eep", "/deep/"),
        ("/%2f%2fdeep", "/deep/"),
    ],
)
def test_a_directory_without_its_slash(root: Path, path: str, location: str) -> None:
    got = ask(root, path)
    assert (got.status, got.headers["location"], got.body) == (307, location, b"")


def test_a_redirect_leads_to_no_other_host(root: Path) -> None:
    for name in ("evil.example", "\\evil.example", "a b\r\nx: y"):
        (root / name).mkdir()
        (root / name / "index.html").touch()
    assert ask(root, "//evil.example").headers["location"] == "/evil.example/"
    assert ask(root, "/%5cevil.example").headers["location"] == "/%5Cevil.example/"
    assert ask(root, "/a%20b%0d%0ax:%20y").headers["location"] == "/a%20b%0D%0Ax%3A%20y/"


def test_below_a_path_of_a_reverse_proxy(root: Path) -> None:
    assert ask(root, "/digits", prefix="/files").body == b"0123456789"
    assert ask(root, "/deep?q", prefix="/files").headers["location"] == "/files/deep/?q"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "POST", "PUT", "DELETE", "BREW"])
def test_other_methods(root: Path, method: str) -> None:
    got = ask(root, "/digits", "Content-Length: 0", method=method)
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


def test_a_page_for_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("<p>lost</p>")
    (tmp_path / "404.html.gz").write_bytes(gzip.compress(b"<p>lost</p>"))
    for path in ("/no-such-file", "/../x", "/%00"):
        got = ask(tmp_path, path, "If-None-Match: *", "Range: bytes=0-1")
        assert (got.status, got.body) == (404, b"<p>lost</p>")
        assert got.headers["content-type"] == "text/html; charset=utf-8"
        assert got.headers["vary"] == "accept-encoding"
        assert not {"etag", "last-modified", "accept-ranges"} & set(got.headers)
        assert decode(got.progress).kind is Body.FILE
    assert ask(tmp_path, "/x", "Accept-Encoding: gzip").headers["content-encoding"] == "gzip"
    assert ask(tmp_path, "/404.html").status == 200
    (tmp_path / "404.html").unlink()
    (tmp_path / "404.html").mkdir()
    assert ask(tmp_path, "/no-such-file").body == b"Not Found"


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_this_user_may_not_read(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir()
    (closed / "file").touch()
    (root / "open.txt").write_text("open")
    for name in ("closed.txt", "open.txt.gz"):
        (root / name).write_text("closed")
        (root / name).chmod(0)
    (root / "elsewhere").symlink_to("../closed/file")
    (root.parent / "closed").mkdir(mode=0)
    closed.chmod(0)
    try:
        with without_privileges():
            for path in ("/closed.txt", "/closed/file", "/closed/"):
                assert ask(root, path).status == 403, path
            assert ask(root, "/elsewhere").status == 404
            assert ask(root, "/open.txt", "Accept-Encoding: gzip").body == b"open"
    finally:
        closed.chmod(0o700)
        (root.parent / "closed").chmod(0o700)


def test_an_error_of_the_server_is_a_500(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    (root / "unread").write_bytes(b"x")
    os.utime(root / "unread", (CHANGED, CHANGED))
    monkeypatch.setattr(os, "pread", broken)
    assert ask(root, "/unread").status == 500
    assert "Input/output error" in caplog.text


# Codings


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ([], None),
        ([""], None),
        (["gzip"], "gzip"),
        (["GZip"], "gzip"),
        (["x-gzip"], "gzip"),
        (["br"], "br"),
        (["gzip, deflate, br, zstd"], "br"),
        (["gzip", "br"], "br"),
        (["br;q=0.5, gzip;q=0.8"], "gzip"),
        (["br;q=0.5, gzip ; q=0.5"], "br"),
        (["br;q=0, gzip;q=0"], None),
        (["br;q=0.000, gzip;q=0.001"], "gzip"),
        (["identity, gzip;q=0.5"], None),
        (["identity;q=0.5, gzip;q=0.5"], "gzip"),
        (["identity;q=0"], None),
        (["identity;q=0, gzip;q=0.1"], "gzip"),
        (["*"], "br"),
        (["*;q=0.1, gzip"], "gzip"),
        (["br;q=0, *"], "gzip"),
        (["*;q=0"], None),
        (["deflate"], None),
        (["br;q=1.5, gzip;q=x"], None),
        (["br;quality=1, gzip"], "gzip"),
        (["br;;, gzip"], "gzip"),
        (["," * 60 + "gzip"], "gzip"),
    ],
)
def test_codings(root: Path, accepted: list[str], coding: str | None) -> None:
    got = ask(root, "/both.js", *(f"Accept-Encoding: {value}" for value in accepted))
    name = {None: "both.js", "br": "both.js.br", "gzip": "both.js.gz"}[coding]
    assert (got.status, got.body) == (200, (root / name).read_bytes())
    assert got.headers.get("content-encoding") == coding
    assert got.headers["vary"] == "accept-encoding"
    assert got.headers["content-type"] == ask(root, "/both.js").headers["content-type"]
    assert "javascript" in got.headers["content-type"]


def test_every_coding_has_a_tag_of_its_own(root: Path) -> None:
    tags = {etag(root, "/both.js", f"Accept-Encoding: {coding}") for coding in ("", "br", "gzip")}
    assert len(tags) == 3
    plain, coded = etag(root, "/copy.txt"), etag(root, "/copy.txt", "Accept-Encoding: gzip")
    assert plain != coded, "equal bytes that mean something else"
    gzipped = "Accept-Encoding: gzip"
    got = ask(root, "/copy.txt", gzipped, f"If-None-Match: {coded}")
    assert (got.status, got.etag, got.headers["vary"]) == (304, coded, "accept-encoding")
    assert ask(root, "/copy.txt", gzipped, f"If-None-Match: {plain}").status == 200
    assert ask(root, "/copy.txt", gzipped, "Range: bytes=0-1", f"If-Range: {plain}").status == 200


def test_ranges_are_of_the_coded_bytes(root: Path) -> None:
    coded = (root / "both.js.gz").read_bytes()
    got = ask(root, "/both.js", "Accept-Encoding: gzip", "Range: bytes=3-7")
    assert (got.status, got.body) == (206, coded[3:8])
    assert got.headers["content-encoding"] == "gzip"
    assert got.headers["content-range"] == f"bytes 3-7/{len(coded)}"
    several = ask(root, "/both.js", "Accept-Encoding: gzip", "Range: bytes=3-4,7-8")
    assert (several.status, several.body) == (200, coded)


def test_no_siblings_no_vary(root: Path) -> None:
    for path in ("/digits", "/strange.txt", "/both.js.gz"):
        got = ask(root, path, "Accept-Encoding: br, gzip")
        assert got.status == 200
        assert not {"vary", "content-encoding"} & set(got.headers)
    assert ask(root, "/both.js.gz").headers["content-type"] == "application/gzip"


def test_an_index_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "deep/index.html/index.html").mkdir(parents=True)
    for path in ("/deep", "/deep/", "/deep/index.html", "/deep/index.html/"):
        assert ask(tmp_path, path).status == 404, path
