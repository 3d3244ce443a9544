"""A directory as a tree of URLs: finds files, and nothing that is not below its real root."""

from __future__ import annotations

import errno
import os
from urllib.parse import unquote_to_bytes

MOST_PATH = 4096
"""Bytes: the kernel takes no longer path."""

_NOT_THERE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,
}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}


def segments_of(raw_path: bytes, root_path: str = "") -> list[bytes] | None:
    """Names on the way from the root, the last b"" for a directory; None: it can name nothing.

    raw_path: of the URL, percent-encoded. An encoded slash is a slash. Repeated slashes count once,
    `.` and `..` are resolved, and what would leave the root is nothing, as what contains a NUL is.
    So are names that begin with a dot (`.env`, `.git`), which are seldom meant for the public, but
    for `.well-known` at the root (RFC 8615 §3).
    """
    path = unquote_to_bytes(raw_path)
    root = root_path.rstrip("/").encode()
    if root and (path == root or path.startswith(root + b"/")):
        path = path[len(root) :] or b"/"
    if not path.startswith(b"/") or b"\0" in path or len(path) > MOST_PATH:
        return None
    segments: list[bytes] = []
    *names, last = path.split(b"/")
    for name in (*names, last):
        if name == b"..":
            if not segments:
                return None
            segments.pop()
        elif name not in (b"", b"."):
            segments.append(name)
    if last in (b"", b".", b".."):
        segments.append(b"")
    shown = segments[1:] if segments[:1] == [b".well-known"] else segments
    return None if any(name.startswith(b".") for name in shown) else segments


def status_of(error: OSError) -> int:
    """The HTTP status for a file that cannot be had. Raises `error` if the fault is ours."""
    if error.errno in _NOT_THERE:
        return 404
    if error.errno in _NOT_ALLOWED:
        return 403
    raise error


class Tree:
    """All files below a directory."""

    def __init__(self, root: str) -> None:
        """root: an existing directory; symbolic links on the way to it are resolved once."""
        self._root = os.fsencode(os.path.realpath(root))
        self._inside = self._root.rstrip(b"/") + b"/"

    def find(self, segments: list[bytes]) -> tuple[bytes, os.stat_result]:
        """Real path and status of what is there. Raises OSError.

        A symbolic link that leaves the root leads nowhere.
        """
        path = self._inside + b"/".join(segments).rstrip(b"/")
        found: os.stat_result | OSError
        try:
            # First, because resolving a long path that leads nowhere costs a call for each name.
            found = os.stat(path)
        except PermissionError as error:
            found = error  # whether it says so depends on where it is
        real = os.path.realpath(path)
        if real != self._root and not real.startswith(self._inside):
            raise OSError(errno.ENOENT, "outside of the root")
        if isinstance(found, OSError):
            raise found
        return real, found
