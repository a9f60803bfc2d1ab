"""The WSGI middleware over raw environments, and Flask."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from analytics_requests import Tracked, tracked
from flask import Blueprint, Flask, Response, abort, request, stream_with_context
from wsgi_calls import WsgiServer

from rambla_py.analytics import WsgiMiddleware, instrument_flask


def ok(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


def test_a_request_is_tracked_with_what_is_known_of_it(case: Tracked) -> None:
    """Method, masked path with that of the mount, status, duration, user agent and address."""
    server = WsgiServer(WsgiMiddleware(ok, case.tracker))
    assert server.get("/items/17", "PUT", SCRIPT_NAME="/shop", HTTP_USER_AGENT="tests/1") == 200
    assert server.body == b"ok"
    event = case.request
    assert event["duration_ms"] >= 0
    assert (
        event.items()
        >= {
            "method": "PUT",
            "path": "/shop/items/{id}",
            "status_code": 200,
            "user_agent": "tests/1",
            "ip_address": "203.0.113.0",
        }.items()
    )


def test_the_request_ends_where_the_server_closes_the_response(case: Tracked) -> None:
    """The application's response is closed first."""
    seen: list[str] = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            for part in (b"a", b"b"):
                seen.append(f"part, {case.count} tracked")
                yield part

        def close(self) -> None:
            seen.append(f"close, {case.count} tracked")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Parts()

    server = WsgiServer(WsgiMiddleware(app, case.tracker))
    server.get("/")
    assert seen == ["part, 0 tracked", "part, 0 tracked", "close, 0 tracked"]
    assert (case.statuses, server.body) == ([200], b"ab")


def test_a_response_that_is_closed_early_is_a_499(case: Tracked) -> None:
    """Servers close it when the client is gone; to HEAD they send no body."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return (b"part" for _ in range(3))

    server = WsgiServer(WsgiMiddleware(app, case.tracker))
    server.get("/", most=1)
    server.get("/", "HEAD", most=1)
    assert case.statuses == [499, 200]
    assert case.errors == []


def test_the_length_of_a_response_stays(case: Tracked) -> None:
    """Servers set Content-Length for a response of one part."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    body: Any = WsgiMiddleware(ok, case.tracker)(environ, lambda status, headers: None)
    assert len(body) == 1
    body.close()
    assert case.statuses == [200]


def test_files_that_the_server_sends_stay_as_they_are(case: Tracked) -> None:
    """Servers recognize their own class of them; the request ends when they close it."""
    file = io.BytesIO(b"file")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file)

    environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(environ)
    body: Any = WsgiMiddleware(app, case.tracker)(environ, lambda status, headers: None)
    assert isinstance(body, FileWrapper)
    assert case.events == []
    body.close()
    assert case.statuses == [200]
    assert file.closed


@pytest.mark.parametrize("when", ["call", "iteration", "close"])
def test_an_exception_is_a_500_and_passes_on(case: Tracked, when: str) -> None:
    """In the call, in the middle of the response, and when it is closed."""
    error = ValueError("no such item")

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            if when == "iteration":
                raise error

        def close(self) -> None:
            if when == "close":
                raise error

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        if when == "call":
            raise error
        return Parts()

    with pytest.raises(ValueError, match="no such item") as caught:
        WsgiServer(WsgiMiddleware(app, case.tracker)).get("/items/17")
    assert caught.value is error
    assert case.statuses == [500]
    (event,) = case.errors
    assert (event["error_type"], event["error_message"]) == ("ValueError", "no such item")
    assert (event["method"], event["path"]) == ("GET", "/items/{id}")


def test_a_status_that_the_application_corrects_counts(case: Tracked) -> None:
    """It may start the response again with the exception that it handled."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError as error:
            start_response("503 Busy", [], (type(error), error, error.__traceback__))
        return [b"busy"]

    WsgiServer(WsgiMiddleware(app, case.tracker)).get("/")
    assert case.statuses == [503]


def test_options_are_those_of_the_asgi_middleware(case: Tracked) -> None:
    """Exclusions, proxies, users, and a path in UTF-8."""
    app = WsgiMiddleware(
        ok,
        case.tracker,
        exclude=["/health*"],
        trusted_proxies=["203.0.113.0/24"],
        identify=lambda environ: environ["shop.user"],
    )
    server = WsgiServer(app)
    server.get("/healthz")
    server.get(
        "/caf\u00c3\u00a9",
        HTTP_X_FORWARDED_FOR="9.9.9.9, 198.51.100.5",
        **{"shop.user": 17},
    )
    event = case.request
    assert (event["path"], event["ip_address"], event["user_id"]) == ("/café", "198.51.100.0", "17")


def flask_app() -> Flask:
    app, api, inner = Flask(__name__), Blueprint("api", __name__), Blueprint("inner", __name__)

    @app.before_request
    def refuse() -> Any:
        return ("no", 403) if request.args.get("refused") else None

    @app.get("/items/<int:item_id>")
    def item(item_id: int) -> str:
        return "ok"

    @inner.get("/parts/<part>")
    def part(tenant: str, part: str) -> str:
        if part == "0":
            raise ZeroDivisionError(part)
        if part == "teapot":
            abort(418)
        return "ok"

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            yield "a"
            if request.args.get("fails"):
                raise RuntimeError("in the middle")
            yield "b"

        return Response(stream_with_context(parts()))

    api.register_blueprint(inner, url_prefix="/v1")
    app.register_blueprint(api, url_prefix="/api/<tenant>")
    return app


@pytest.mark.parametrize(
    ("path", "query", "template", "status"),
    [
        ("/items/17", "", "/items/<int:item_id>", 200),
        ("/items/17", "refused=1", "/items/<int:item_id>", 403),
        ("/api/acme/v1/parts/1", "", "/api/<tenant>/v1/parts/<part>", 200),
        ("/api/acme/v1/parts/teapot", "", "/api/<tenant>/v1/parts/<part>", 418),
        ("/api/acme/v1/parts/0", "", "/api/<tenant>/v1/parts/<part>", 500),
        ("/stream", "", "/stream", 200),
        ("/nope/x.php", "", "(no route)", 404),
    ],
)
def test_paths_of_flask_are_rules(case: Tracked, path: str, query: str, template: str, status: int) -> None:
    """With the prefixes of blueprints; also where a function before the request answers it."""
    app = flask_app()
    instrument_flask(app, case.tracker)
    assert WsgiServer(app).get(path, QUERY_STRING=query) == status
    assert (case.paths, case.statuses) == ([template], [status])


@pytest.mark.parametrize("propagates", [False, True])
def test_an_exception_of_a_view_is_tracked_once(case: Tracked, propagates: bool) -> None:
    """Flask answers it, or lets it pass when it is told to."""
    app = flask_app()
    app.config["PROPAGATE_EXCEPTIONS"] = propagates
    instrument_flask(app, case.tracker)
    try:
        WsgiServer(app).get("/api/acme/v1/parts/0")
    except ZeroDivisionError:
        assert propagates
    assert case.statuses == [500]
    (event,) = case.errors
    assert (event["error_type"], event["path"]) == ("ZeroDivisionError", "/api/<tenant>/v1/parts/<part>")


def test_an_exception_that_the_application_handles_is_no_error(case: Tracked) -> None:
    """Its handler's status counts."""
    app = flask_app()
    app.register_error_handler(ZeroDivisionError, lambda error: ("none", 404))
    instrument_flask(app, case.tracker)
    WsgiServer(app).get("/api/acme/v1/parts/0")
    assert (case.statuses, case.errors) == ([404], [])


def test_a_stream_of_flask_that_fails_is_a_500(case: Tracked) -> None:
    """The headers had said 200."""
    app = flask_app()
    instrument_flask(app, case.tracker)
    with pytest.raises(RuntimeError):
        WsgiServer(app).get("/stream", QUERY_STRING="fails=1")
    assert case.statuses == [500]
    assert len(case.errors) == 1


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_uninstrument_ends_the_tracking_of_flask(case: Tracked, is_wrapped: bool) -> None:
    """Also where another middleware has wrapped ours since."""
    app = flask_app()
    before = app.wsgi_app
    instrumentation = instrument_flask(app, case.tracker)
    if is_wrapped:
        ours = app.wsgi_app
        app.wsgi_app = lambda environ, start: ours(environ, start)  # type: ignore[method-assign]
    WsgiServer(app).get("/items/17")
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    WsgiServer(app).get("/items/17")
    assert case.count == 1
    assert is_wrapped or app.wsgi_app == before
