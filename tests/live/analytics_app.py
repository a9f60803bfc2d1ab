"""A web application under its server, tracked to a SQLite file: ``python analytics_app.py KIND PORT FOLDER``.

Each framework has the same paths: ``/items/{id}``, ``/boom`` raises, ``/endless`` streams until its client leaves.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from rambla_py.analytics import AsgiMiddleware, Tracker, instrument_flask

TICK_S = 0.01


async def endless() -> AsyncIterator[bytes]:
    for _ in itertools.count():
        yield b"x" * 1_024
        await asyncio.sleep(TICK_S)


def blocking_endless() -> Iterator[bytes]:
    for _ in itertools.count():
        yield b"x" * 1_024
        time.sleep(TICK_S)


def starlette(tracker: Tracker) -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Mount, Route

    async def fail() -> None:
        raise RuntimeError("in the background")

    async def item(request: Request) -> PlainTextResponse:
        background = BackgroundTask(fail) if request.query_params.get("background") else None
        return PlainTextResponse("ok", background=background)

    async def boom(request: Request) -> PlainTextResponse:
        raise KeyError("boom")

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    routes = [Route("/items/{id}", item), Route("/boom", boom), Route("/endless", stream)]
    app = Starlette(routes=[*routes, Mount("/api/{tenant}", routes=routes)])
    app.add_middleware(AsgiMiddleware, tracker=tracker, exclude=["/ready"])
    return app


def fastapi(tracker: Tracker) -> Any:
    from fastapi import APIRouter, FastAPI
    from fastapi.responses import StreamingResponse

    router = APIRouter()

    @router.get("/items/{id}")
    async def item(id: str) -> str:  # noqa: A002  # the name in the path
        return "ok"

    @router.get("/boom")
    def boom() -> str:
        raise KeyError("boom")

    @router.get("/endless")
    def stream() -> StreamingResponse:
        return StreamingResponse(endless())

    app = FastAPI()
    app.include_router(router)
    app.include_router(router, prefix="/api/{tenant}")
    app.add_middleware(AsgiMiddleware, tracker=tracker, exclude=["/ready"])
    return app


def flask(tracker: Tracker) -> Any:
    from flask import Blueprint, Flask, Response

    routes = Blueprint("routes", __name__)

    @routes.get("/items/<id>")
    def item(**values: str) -> str:
        return "ok"

    @routes.get("/boom")
    def boom() -> str:
        raise KeyError("boom")

    @routes.get("/endless")
    def stream() -> Response:
        return Response(blocking_endless())

    app = Flask(__name__)
    app.register_blueprint(routes)
    app.register_blueprint(routes, name="api", url_prefix="/api/<tenant>")
    instrument_flask(app, tracker, exclude=["/ready"])
    return app


def django(tracker: Tracker, *, is_async: bool) -> Any:
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["rambla_py.analytics.django.AnalyticsMiddleware"],
        RAMBLA_ANALYTICS={"tracker": tracker, "exclude": ["/ready"]},
        ROOT_URLCONF=sys.modules[__name__],
    )
    django.setup()

    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import include, path

    def item(request: Any, **values: str) -> HttpResponse:
        return HttpResponse("ok")

    def boom(request: Any, **values: str) -> HttpResponse:
        raise KeyError("boom")

    def stream(request: Any, **values: str) -> StreamingHttpResponse:
        return StreamingHttpResponse(endless() if is_async else blocking_endless())

    routes = [path("items/<id>", item), path("boom", boom), path("endless", stream)]
    globals()["urlpatterns"] = [*routes, path("api/<tenant>/", include(routes))]
    return ASGIHandler() if is_async else WSGIHandler()


def run_uvicorn(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)


def run_gunicorn(app: Any, port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self) -> None:
            self.cfg.set("bind", f"127.0.0.1:{port}")
            self.cfg.set("workers", 2)

        def load(self) -> Any:
            return app

    Application().run()


def main(kind: str, port: int, folder: str) -> None:
    tracker = Tracker(f"sqlite:///{folder}/events.db", batch_timeout_s=1)
    if kind in ("starlette", "fastapi"):
        run_uvicorn({"starlette": starlette, "fastapi": fastapi}[kind](tracker), port)
    elif kind == "flask":
        run_gunicorn(flask(tracker), port)
    elif kind == "django-wsgi":
        run_gunicorn(django(tracker, is_async=False), port)
    else:
        run_uvicorn(django(tracker, is_async=True), port)


if __name__ == "__main__":
    os.environ.pop("RAMBLA_CONFIG", None)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
