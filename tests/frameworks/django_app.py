"""Django in one file, for both of its interfaces: `asgi` and `wsgi`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        f"{__name__}.passing",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    LOGGING_CONFIG=None,
    USE_TZ=True,
)


def passing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["X-Passed"] = "yes"
        return response

    return middleware


async def hello(request: Any) -> Any:
    return HttpResponse("hello", content_type="text/plain")


def form(request: Any) -> Any:
    return HttpResponse(f"{request.POST['name']} sent {len(request.POST['text'])}")


async def slow(request: Any) -> Any:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return HttpResponse("too slow", status=504)


def slow_in_a_thread(request: Any) -> Any:
    time.sleep(0.01)
    return HttpResponse("too slow", status=504)


async def numbers() -> AsyncIterator[bytes]:
    for number in range(300):
        await asyncio.sleep(0)
        yield b"%d\n" % number


def numbers_in_a_thread() -> Iterator[bytes]:
    for number in range(300):
        yield b"%d\n" % number


def stream(request: HttpRequest) -> Any:
    asynchronous = hasattr(request, "scope")  # which only a request through ASGI has
    return StreamingHttpResponse(numbers() if asynchronous else numbers_in_a_thread())


def sync(request: Any) -> Any:
    return HttpResponse("from a thread")


def file(request: Any) -> Any:
    return FileResponse(Path(request.GET["path"]).open("rb"))


def broken(request: Any) -> Any:
    raise LookupError("a broken view")


urlpatterns = [
    path("", hello),
    path("form", require_POST(form)),
    path("slow", slow),
    path("stream", stream),
    path("sync", sync),
    path("file", file),
    path("broken", broken),
]

asgi = get_asgi_application()
wsgi = get_wsgi_application()
