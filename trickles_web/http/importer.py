"""Finding the application: "module:attribute", with uvicorn's rules."""

from __future__ import annotations

import importlib
from typing import Any

from trickles_web.errors import AppImportError


def import_app(name: str) -> Any:
    """The object that "module:attribute" names; attribute may be dotted.

    Raises AppImportError with one line that says what to do. An import error inside the module is
    not ours to explain and goes through.
    """
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes:
        raise AppImportError(
            f'Import string "{name}" must be in format "<module>:<attribute>", as in "main:app".'
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != module_name and not module_name.startswith(missing + "."):
            raise
        raise AppImportError(
            f'Could not import module "{module_name}". Run from the directory that holds it,'
            " or name that directory with --app-dir."
        ) from None
    except (TypeError, ValueError) as error:
        if not module_name.startswith("."):
            raise
        raise AppImportError(
            f'Could not import module "{module_name}": relative names need a package ({error}).'
        ) from None
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise AppImportError(
                f'Attribute "{attributes}" not found in module "{module_name}".'
                " Name the variable that holds the application."
            ) from None
    if not callable(found):
        raise AppImportError(
            f'"{name}" is not callable ({type(found).__name__}). Name an ASGI application.'
        )
    return found
