"""A directory of files for the tests of the static application, and one request to it."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.http.apps import get
from tests.http.peer import QUIET, Peer, Site, body_of
from trickles_web.http.static import StaticFiles

DATA = Random(9).randbytes(300_000)
"""Large enough to be hashed in a thread."""
SCRIPT = b"let answer = 42;\n" * 100
CHANGED = 1_600_000_000
SINCE = "Sun, 13 Sep 2020 12:26:40 GMT"
BEFORE = "Sun, 13 Sep 2020 12:26:39 GMT"
AFTER = "Sun, 13 Sep 2020 12:26:41 GMT"


def fill(root: Path) -> None:
    """The tree of all tests, and what must not be served beside it."""
    (root / "deep/empty").mkdir(parents=True)
    (root / ".well-known").mkdir()
    (root / "deep/.well-known").mkdir()
    (root.parent / "secret.txt").write_text("secret")
    (root.parent / f"{root.name}-other").mkdir()
    (root.parent / f"{root.name}-other" / "secret.txt").write_text("secret")
    files = {
        "index.html": b"<p>index</p>",
        "deep/index.html": b"<p>deep</p>",
        "deep/page.html": b"<p>page</p>",
        "data.bin": DATA,
        "digits": b"0123456789",
        "nothing.txt": b"",
        ".hidden": b"dot",
        ".well-known/security.txt": b"well",
        ".well-known/.hidden": b"dot",
        "deep/.well-known/page.html": b"<p>well</p>",
        "ü und 日.txt": b"name",
        "a+b%20c": b"plus",
        "data:text,x.css": b"p {}",
        "archive.tar.gz": b"tar",
        "both.js": SCRIPT,
        "both.js.br": b"br of " + SCRIPT,
        "both.js.gz": gzip.compress(SCRIPT, mtime=0),
        "copy.txt": b"the same",
        "copy.txt.gz": b"the same",
        "strange.txt": b"strange",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    (root / "deep/inside").symlink_to("../digits")
    (root / "linked").symlink_to("deep")
    (root / "outside.txt").symlink_to("../secret.txt")
    (root / "parent").symlink_to("..")
    (root / "neighbour").symlink_to(f"../{root.name}-other")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("no-such-file")
    (root / "strange.txt.br").mkdir()
    (root / "strange.txt.gz").symlink_to("../secret.txt")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (CHANGED, CHANGED))


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes
    progress: bytes = field(repr=False)

    @property
    def etag(self) -> str:
        return self.headers["etag"]


def parsed(response: bytes, progress: bytes) -> Got:
    lines, _, _ = response.partition(b"\r\n\r\n")
    first, *rest = lines.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert len(headers) == len(rest), "a header twice"
    return Got(int(first.split(" ")[1]), headers, body_of(response), progress)


def site_of(root: Path, *, identity: str = "stat", seed: int = 1, prefix: str = "") -> Site:
    config = replace(QUIET, file_identity=identity, root_path=prefix)
    app = StaticFiles(str(root), by_content=identity == "content")
    return Site(app, config=config, seed=seed, open_to_strangers=True)


def ask(root: Path, path: str, *extra: str, method: str = "GET", prefix: str = "") -> Got:
    """One request to a new server."""

    async def main() -> Got:
        site = site_of(root, prefix=prefix)
        peer = Peer(lambda: site)
        response = await peer.exchange(get(path, *extra, method=method))
        await site.service.shutdown()
        return parsed(response, peer.progress)

    return asyncio.run(main())


def etag(root: Path, path: str, *extra: str) -> str:
    return ask(root, path, *extra).etag


def parts_of(got: Got) -> list[tuple[str, str, bytes]]:
    """(type, range, bytes) of a multipart body, taken apart by its boundary."""
    name, _, boundary = got.headers["content-type"].partition("; boundary=")
    assert name == "multipart/byteranges"
    first, *parts, last = (b"\r\n" + got.body).split(b"\r\n--" + boundary.encode())
    assert (first, last) == (b"", b"--\r\n")
    taken = []
    for part in parts:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = dict(line.split(": ") for line in head.decode().split("\r\n"))
        taken.append((headers["Content-Type"], headers["Content-Range"], data))
    return taken
