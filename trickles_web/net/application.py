"""The application to serve: named `module:attribute` as for uvicorn, or a directory of files."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

from trickles_web.errors import AppImportError, UsageError
from trickles_web.http import importer
from trickles_web.http.importer import import_app

logger = logging.getLogger("trickles.error")


def import_application(name: str, app_dir: str = "") -> Any:
    """The object that `name` stands for, with `app_dir` (default: here) first on the path.

    Raises AppImportError, in one line: what is missing, or where the module's own code failed.
    """
    if app_dir not in sys.path:
        sys.path.insert(0, app_dir)
    try:
        return import_app(name)
    except AppImportError:
        raise
    except (Exception, SystemExit) as error:
        raise AppImportError(_blame(name, error)) from None


def _blame(name: str, error: BaseException) -> str:
    """The error and the line that raised it; the traceback is for --log-level debug."""
    logger.debug("Importing %s failed", name, exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        f" ({frame.filename}, line {frame.lineno})"
        for frame in frames
        if "importlib" not in frame.filename and frame.filename not in (__file__, importer.__file__)
    ]
    text = " ".join(str(error).split())
    place = places[-1] if places and not isinstance(error, SyntaxError) else ""
    return f"importing {name} failed: {type(error).__name__}: {text}{place}"


def static_root(directory: str) -> str:
    """The directory's real path. Raises UsageError."""
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        raise UsageError(f"--static {directory}: no such directory")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UsageError(f"--static {directory}: this user may not read it")
    return root


def static_application(directory: str) -> Any:
    """Starlette's StaticFiles, with index.html for directories. Raises UsageError."""
    root = static_root(directory)
    try:
        from starlette.applications import Starlette
        from starlette.routing import Mount
        from starlette.staticfiles import StaticFiles
    except ImportError:
        raise UsageError("--static needs Starlette: pip install 'trickles-web[static]'") from None
    # Inside of an application, because StaticFiles alone raises its 404s.
    return Starlette(routes=[Mount("/", app=StaticFiles(directory=root, html=True))])
