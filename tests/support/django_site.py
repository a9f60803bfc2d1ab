"""A small Django project: its views, and its settings where no other test has made any."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(DATABASES={}, INSTALLED_APPS=["rambla_py.outbox.django"], USE_TZ=True)
    django.setup()

from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path

MIDDLEWARE = "rambla_py.analytics.django.AnalyticsMiddleware"


def item(request: Any, **values: Any) -> HttpResponse:
    """Answer; ``?raises=`` names what to raise."""
    raises = request.GET.get("raises")
    if raises == "error":
        raise KeyError("item")
    if raises == "denied":
        raise PermissionDenied
    return HttpResponse("ok")


async def async_item(request: Any, **values: Any) -> HttpResponse:
    """Do what ``item`` does, in the loop."""
    await asyncio.sleep(0)
    return item(request)


async def never(request: Any) -> HttpResponse:
    """Answer when the request is cancelled, which is never."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def stream(request: Any) -> StreamingHttpResponse:
    """Stream three parts; ``?fails=1`` raises after the first."""

    def parts() -> Iterator[bytes]:
        yield b"a"
        if request.GET.get("fails"):
            raise RuntimeError("in the middle")
        yield b"b"
        yield b"c"

    return StreamingHttpResponse(parts())


async def async_stream(request: Any) -> StreamingHttpResponse:
    """Stream as ``stream`` does, from an asynchronous iterator."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0)
        if request.GET.get("fails"):
            raise RuntimeError("in the middle")
        yield b"b"
        yield b"c"

    return StreamingHttpResponse(parts())


def file(request: Any) -> FileResponse:
    """Send a file."""
    return FileResponse(tempfile.TemporaryFile(), filename="empty.txt")


class RaisingMiddleware:
    """Raises for ``?inner=1``, as a view would not."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        if request.GET.get("inner"):
            raise LookupError("in a middleware")
        return self.get_response(request)


parts_urls = [path("parts/<slug:part>/", item)]
urlpatterns = [
    path("", item),
    path("items/<int:id>/", item),
    path("async/<int:id>/", async_item),
    path("api/<slug:tenant>/", include(parts_urls)),
    path("stream/", stream),
    path("async-stream/", async_stream),
    path("file/", file),
    path("never/", never),
]


@contextmanager
def site(analytics: Any, *more: str) -> Iterator[None]:
    """Let the settings be those of this project, with ``RAMBLA_ANALYTICS`` and more middleware."""
    with override_settings(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=[MIDDLEWARE, *more],
        RAMBLA_ANALYTICS=analytics,
    ):
        yield


def id_of(request: Any) -> str:
    """Identify the user of a request."""
    return "u-17"
