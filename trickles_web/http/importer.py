"""Finding the application: "module:attribute" and factories, with uvicorn's rules; and telling
which interface it has."""

from __future__ import annotations

import importlib
import inspect
import logging
from typing import TYPE_CHECKING, Any

from trickles_web.errors import AppImportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trickles_web.http.scope import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("trickles.error")


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
            f'Could not import module "{module_name}". {_advice(module_name, attributes)}'
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
    _check_callable(found, f'"{name}"')
    return found


def _advice(module_name: str, attributes: str) -> str:
    if not module_name.endswith(".py"):
        return "Run from the directory that holds it, or name that directory with --app-dir."
    directory, _, file = module_name.rpartition("/")
    where = f" with --app-dir {directory}" if directory else ""
    return f'Did you mean "{file.removesuffix(".py")}:{attributes}"{where}?'


def _check_callable(found: object, name: str) -> None:
    if not callable(found):
        raise AppImportError(
            f"{name} is not callable ({type(found).__name__}). Name an ASGI or WSGI application."
        )


def _parameters(app: Any) -> list[inspect.Parameter] | None:
    """What it takes; None if that cannot be told: `*args`, or no signature."""
    try:
        parameters = list(inspect.signature(app).parameters.values())
    except (TypeError, ValueError):
        return None
    unknown = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return None if unknown else parameters


def made_by_factory(app: Any, factory: bool) -> Any:
    """What `app` returns, if it is a factory by option or by taking no arguments, else `app`.

    Raises AppImportError, and whatever the factory raises.
    """
    if not factory:
        parameters = _parameters(app)
        if parameters is None or any(
            p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters
        ):
            return app
        logger.warning(
            "ASGI app factory detected. Using it, but please consider setting the --factory flag"
            " explicitly."
        )
    made = app()
    _check_callable(made, "What the factory made")
    return made


def interface_of(app: Any) -> str:
    """`asgi3`, `asgi2` or `wsgi`: by what may be awaited as uvicorn, else by what it takes.

    A WSGI application takes environ and start_response, one of ASGI 2 a scope. Where nothing can be
    told, as with `*args`, it is ASGI 3.
    """
    if inspect.isclass(app):
        if hasattr(app, "__await__"):
            return "asgi3"
    elif inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(
        getattr(app, "__call__", None)  # noqa: B004
    ):
        return "asgi3"
    required = [
        p
        for p in _parameters(app) or ()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return {1: "asgi2", 2: "wsgi"}.get(len(required), "asgi3")


def from_asgi2(app: Callable[[Scope], Callable[[Receive, Send], Awaitable[object]]]) -> ASGIApp:
    """An ASGI 2 application, which is called twice, as one of ASGI 3."""

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope)(receive, send)

    return asgi3
