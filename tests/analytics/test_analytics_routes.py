"""Templates of routes: mounts with parameters, routers in routers, and requests without a route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from analytics_requests import Tracked, tracked
from asgi_calls import call
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from rambla_py.analytics import AsgiMiddleware


def ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


class Endpoint:
    """An endpoint that is an ASGI application."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("ok")(scope, receive, send)


@pytest.fixture
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    (folder / "a.css").write_text("a")
    (folder / "b.css").write_text("b")
    return folder


def starlette_app(folder: Path) -> Starlette:
    shared = Starlette(routes=[Route("/ping/{word}", ok)])
    items = [Route("/items/{id:int}", ok), Route("/files/{rest:path}", ok), Route("/{name}", Endpoint())]
    hidden = Router([Route("/items/{id:int}", ok)])
    return Starlette(
        routes=[
            Route("/", ok),
            Route("/items/{id}", ok, methods=["GET"]),
            Mount("/api/{tenant}", routes=items),
            Mount("/deep/{a}", routes=[Mount("/{b}", routes=[Route("/c/{c}", ok)])]),
            Mount("/one", app=shared),
            Mount("/two", app=shared),
            Mount("/wrapped/{tenant}", app=GZipMiddleware(hidden)),
            Mount("/static", app=StaticFiles(directory=folder)),
            Host("{name}.shop.example", app=Router([Route("/hosted/{id}", ok)])),
        ]
    )


@pytest.mark.parametrize(
    ("paths", "template", "status"),
    [
        (["/"], "/", 200),
        ([f"/items/{number}" for number in range(1, 51)], "/items/{id}", 200),
        (["/api/acme/items/1", "/api/other/items/2"], "/api/{tenant}/items/{id:int}", 200),
        (["/api/items/items/1", "/api/1/items/1"], "/api/{tenant}/items/{id:int}", 200),
        (["/api/acme/files/a/b/c", "/api/acme/files/"], "/api/{tenant}/files/{rest:path}", 200),
        (["/api/acme/acme", "/api/acme/x"], "/api/{tenant}/{name}", 200),
        (["/deep/1/2/c/3", "/deep/c/c/c/c"], "/deep/{a}/{b}/c/{c}", 200),
        (["/one/ping/x", "/one/ping/two"], "/one/ping/{word}", 200),
        (["/two/ping/x", "/two/ping/one"], "/two/ping/{word}", 200),
        (["/wrapped/acme/items/1", "/wrapped/x/items/2"], "/wrapped/{tenant}/items/{id:int}", 200),
        (["/static/a.css", "/static/b.css"], "/static/{path:path}", 200),
        (["/static/nope.css"], "/static/{path:path}", 404),
        (["/nope/x.php", "/api/acme/items/1/nope", "/deep/1/2/nope"], "(no route)", 404),
        (["/items/17/"], "(no route)", 307),
    ],
)
def test_paths_of_starlette_are_templates(
    case: Tracked, folder: Path, paths: list[str], template: str, status: int
) -> None:
    """With every mount's, whose parameters keep their names; one path for all values."""
    app = starlette_app(folder)
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    for _ in range(2):  # the second time templates are known
        for path in paths:
            assert call(app, path).status == status
    assert set(case.paths) == {template}


def test_a_method_that_is_not_allowed_keeps_its_template(case: Tracked, folder: Path) -> None:
    """The route is known, and the answer is 405."""
    app = starlette_app(folder)
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    call(app, "/items/17", "DELETE")
    assert (case.paths, case.statuses) == (["/items/{id}"], [405])


def test_hosts_add_nothing_to_the_path(case: Tracked, folder: Path) -> None:
    """Their parameters are no part of it."""
    app = starlette_app(folder)
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    call(app, "/hosted/17", headers=[(b"host", b"acme.shop.example")])
    assert case.paths == ["/hosted/{id}"]


def test_the_root_path_of_the_server_is_no_mount(case: Tracked, folder: Path) -> None:
    """A prefix of a proxy is not the application's."""
    app = starlette_app(folder)
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    for path in ("/v1/api/acme/items/1", "/v1/one/ping/x", "/v1/wrapped/acme/items/1"):
        assert call(app, path, root_path="/v1").status == 200
    assert case.paths == [
        "/api/{tenant}/items/{id:int}",
        "/one/ping/{word}",
        "/wrapped/{tenant}/items/{id:int}",
    ]


def test_middleware_of_a_mounted_application_sees_the_mounts_around_it(case: Tracked) -> None:
    """The router outside is in the scope."""
    inner = Starlette(routes=[Route("/items/{id}", ok)])
    inner.add_middleware(AsgiMiddleware, tracker=case.tracker)
    call(Starlette(routes=[Mount("/api/{tenant}", app=inner)]), "/api/acme/items/1")
    assert case.paths == ["/api/{tenant}/items/{id}"]


def test_exceptions_of_endpoints_have_the_template(case: Tracked) -> None:
    """A handler of the application may answer them: then there is no error."""

    def fail(request: Request) -> PlainTextResponse:
        raise KeyError(request.path_params["id"])

    def forbidden(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("no", 403)

    routes = [Mount("/api/{tenant}", routes=[Route("/items/{id}", fail)])]
    app = Starlette(routes=routes)
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    with pytest.raises(KeyError):
        call(app, "/api/acme/items/1")
    assert [(event["path"], event["method"]) for event in case.errors] == [
        ("/api/{tenant}/items/{id}", "GET")
    ]
    handling = Starlette(routes=routes, exception_handlers={KeyError: forbidden})
    handling.add_middleware(AsgiMiddleware, tracker=case.tracker)
    assert call(handling, "/api/acme/items/1").status == 403
    assert case.statuses == [500, 403]
    assert len(case.errors) == 1


def fastapi_app() -> FastAPI:
    parts, items, again = APIRouter(), APIRouter(prefix="/items/{item_id}"), APIRouter()

    @parts.get("/parts/{part_id}")
    async def part(item_id: int, part_id: str) -> str:
        return "ok"

    @items.get("")
    async def item(item_id: int) -> str:
        return "ok"

    @again.get("/ping/{word}")
    async def ping(word: str) -> str:
        return "ok"

    @again.websocket("/ws/{word}")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()

    items.include_router(parts)
    app, inner = FastAPI(), FastAPI()
    app.include_router(items, prefix="/api/{tenant}")
    app.include_router(again, prefix="/one")
    app.include_router(again, prefix="/two")
    app.add_route("/plain/{id}", ok)
    inner.include_router(items)
    app.mount("/inner/{shop}", inner)
    app.mount("/starlette/{shop}", Starlette(routes=[Route("/x/{id}", ok)]))
    return app


@pytest.mark.parametrize(
    ("path", "template", "status"),
    [
        ("/api/acme/items/1", "/api/{tenant}/items/{item_id}", 200),
        ("/api/acme/items/1/parts/acme", "/api/{tenant}/items/{item_id}/parts/{part_id}", 200),
        ("/api/acme/items/none", "/api/{tenant}/items/{item_id}", 422),
        ("/one/ping/two", "/one/ping/{word}", 200),
        ("/two/ping/one", "/two/ping/{word}", 200),
        ("/plain/7", "/plain/{id}", 200),
        ("/openapi.json", "/openapi.json", 200),
        ("/inner/acme/items/1/parts/2", "/inner/{shop}/items/{item_id}/parts/{part_id}", 200),
        ("/inner/acme/openapi.json", "/inner/{shop}/openapi.json", 200),
        ("/starlette/acme/x/1", "/starlette/{shop}/x/{id}", 200),
        ("/nope/x.php", "(no route)", 404),
        ("/inner/acme/nope", "(no route)", 404),
        ("/starlette/acme/nope", "(no route)", 404),
        ("/api/acme/items/1/", "(no route)", 307),
    ],
)
def test_paths_of_fastapi_are_templates(case: Tracked, path: str, template: str, status: int) -> None:
    """With the prefixes of included routers, and the mounts."""
    app = fastapi_app()
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    for _ in range(2):
        assert call(app, path).status == status
    assert case.paths == [template, template]


def test_fastapi_inside_a_mount_of_starlette(case: Tracked) -> None:
    """Its plain routes leave the mount as the scope's route."""
    app = Starlette(routes=[Mount("/shop/{name}", app=fastapi_app())])
    app.add_middleware(AsgiMiddleware, tracker=case.tracker)
    for path in ("/shop/acme/openapi.json", "/shop/acme/api/acme/items/1", "/shop/acme/nope"):
        call(app, path)
    assert case.paths == [
        "/shop/{name}/openapi.json",
        "/shop/{name}/api/{tenant}/items/{item_id}",
        "(no route)",
    ]
