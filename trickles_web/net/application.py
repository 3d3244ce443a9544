"""The application to serve: named `module:attribute` as for uvicorn, or a directory of files."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

from trickles_web.errors import AppImportError, UsageError
from trickles_web.http import importer
from trickles_web.http.importer import from_asgi2, import_app, interface_of, made_by_factory
from trickles_web.http.scope import ASGIApp
from trickles_web.http.static import StaticFiles

logger = logging.getLogger("trickles.error")


def import_application(name: str, app_dir: str = "", factory: bool = False) -> Any:
    """The object that `name` stands for, with `app_dir` (default: here) first on the path.
    With `factory`, what that returns.

    Raises UsageError, in one line: what is missing, or where the module's own code failed.
    """
    if app_dir and not os.path.isdir(app_dir):
        raise UsageError(f"--app-dir {app_dir}: no such directory")
    if app_dir not in sys.path:
        sys.path.insert(0, app_dir)
    try:
        return made_by_factory(import_app(name), factory)
    except AppImportError:
        raise
    except (Exception, SystemExit) as error:
        raise AppImportError(_blame(name, error)) from None


def hosted(app: Any, interface: str, threads: int) -> ASGIApp:
    """The application behind the interface that the server calls. `threads`: calls of a WSGI
    application at a time.

    Raises UsageError.
    """
    match interface_of(app) if interface == "auto" else interface:
        case "wsgi":
            try:
                from trickles_web.http import wsgi
            except ModuleNotFoundError:
                raise UsageError(
                    "a WSGI application needs a2wsgi: pip install 'trickles-web[wsgi]'"
                ) from None
            return wsgi.Hosted(app, threads)
        case "asgi2":
            return from_asgi2(app)
    found: ASGIApp = app
    return found


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
    if not directory:  # to the system it is the current one
        raise UsageError("--static: the name is empty; give a directory, '.' for this one")
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        what = "not a directory" if os.path.exists(root) else "no such directory"
        raise UsageError(f"--static {directory}: {what}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UsageError(f"--static {directory}: this user may not read it")
    return root


def static_application(directory: str, *, by_content: bool = False) -> ASGIApp:
    """The files below a directory, with index.html for directories. Raises UsageError."""
    return StaticFiles(static_root(directory), by_content=by_content)
