"""The middleware for Django, under its WSGI and its ASGI handler."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import django_site
import pytest
from analytics_requests import Tracked, tracked
from asgi_calls import acall, call
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from wsgi_calls import WsgiServer

ASYNC_PATHS = ["/async/17/", "/async-stream/"]


class Asgi:
    """Requests of the ASGI handler, as `WsgiServer` makes those of the other one."""

    def __init__(self) -> None:
        self.handler = ASGIHandler()

    def get(self, path: str, query: str = "") -> int:
        return call(self.handler, path, query_string=query.encode()).status


class Wsgi:
    """Requests of the WSGI handler."""

    def __init__(self) -> None:
        self.server = WsgiServer(WSGIHandler())

    def get(self, path: str, query: str = "") -> int:
        return self.server.get(path, QUERY_STRING=query)


@pytest.fixture
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


@pytest.fixture(params=[Wsgi, Asgi])
def client(request: pytest.FixtureRequest, case: Tracked) -> Iterator[Any]:
    """A client of the project, whose middleware is ours and one that raises."""
    with django_site.site({"tracker": case.tracker}, "django_site.RaisingMiddleware"):
        yield request.param()


# Django warns that it reads synchronous streams at once under ASGI.
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@pytest.mark.parametrize(
    ("path", "query", "template", "status"),
    [
        ("/", "", "/", 200),
        ("/items/17/", "", "/items/<int:id>/", 200),
        ("/async/17/", "", "/async/<int:id>/", 200),
        ("/api/acme/parts/x/", "", "/api/<slug:tenant>/parts/<slug:part>/", 200),
        ("/items/17/", "raises=denied", "/items/<int:id>/", 403),
        ("/stream/", "", "/stream/", 200),
        ("/file/", "", "/file/", 200),
        ("/nope/x.php", "", "(no route)", 404),
    ],
)
def test_paths_of_django_are_routes(
    client: Any, case: Tracked, path: str, query: str, template: str, status: int
) -> None:
    """With those of includes; what Django answers by itself is no error."""
    assert client.get(path, query) == status
    assert (case.paths, case.statuses) == ([template], [status])
    assert case.errors == []
    assert (case.request["method"], case.request["ip_address"]) == ("GET", "203.0.113.0")


@pytest.mark.parametrize(
    ("path", "query", "kind"),
    [
        ("/items/17/", "raises=error", KeyError),
        ("/async/17/", "raises=error", KeyError),
        ("/items/17/", "inner=1", LookupError),
    ],
)
def test_exceptions_that_django_answers_are_errors(
    client: Any, case: Tracked, path: str, query: str, kind: type[Exception]
) -> None:
    """Those of views, and those of other middleware."""
    assert client.get(path, query) == 500
    assert case.statuses == [500]
    assert [event["error_type"] for event in case.errors] == [kind.__name__]
    assert case.errors[0]["path"] == case.paths[0]


def test_a_stream_ends_the_request_with_its_last_part(case: Tracked) -> None:
    """Under ASGI an asynchronous one."""
    seen: list[int] = []
    with django_site.site(case.tracker):
        answer = call(ASGIHandler(), "/async-stream/", on_send=lambda message: seen.append(case.count))
    assert answer.body == b"abc"
    assert set(seen) == {0}
    assert case.statuses == [200]


# Django leaves the body of such a request open under ASGI.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_a_stream_that_fails_is_a_500(case: Tracked) -> None:
    """The headers had said 200; the exception passes on to the server."""
    with django_site.site(case.tracker):
        with pytest.raises(RuntimeError, match="in the middle"):
            WsgiServer(WSGIHandler()).get("/stream/", QUERY_STRING="fails=1")
        with pytest.raises(RuntimeError, match="in the middle"):
            call(ASGIHandler(), "/async-stream/", query_string=b"fails=1")
    gc.collect()
    assert case.statuses == [500, 500]
    assert len(case.errors) == 2


def test_a_stream_that_is_closed_early_is_a_499(case: Tracked) -> None:
    """The server closes it, for its client is gone."""
    with django_site.site(case.tracker):
        WsgiServer(WSGIHandler()).get("/stream/", most=1)
    assert case.statuses == [499]


def test_a_client_that_leaves_is_a_499(case: Tracked) -> None:
    """Django cancels the view."""
    incoming = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]
    with django_site.site(case.tracker):
        asyncio.run(acall_silent(ASGIHandler(), "/never/", incoming))
    assert (case.paths, case.statuses, case.errors) == (["/never/"], [499], [])


async def acall_silent(handler: Any, path: str, incoming: list[dict[str, Any]]) -> None:
    assert (await acall(handler, path, incoming=incoming)).messages == []


def test_files_are_sent_by_the_server(case: Tracked) -> None:
    """It gets the file itself, and closes it, which ends the request."""
    wrapped: list[Any] = []

    class Wrapper:
        def __init__(self, file: Any, block_size: int) -> None:
            self.file = file
            self.close = file.close
            wrapped.append(self)

        def __iter__(self) -> Iterator[bytes]:
            return iter(lambda: self.file.read(8), b"")

    with django_site.site(case.tracker):
        server = WsgiServer(WSGIHandler())
        server.get("/file/", **{"wsgi.file_wrapper": Wrapper})
    assert hasattr(wrapped[0].file, "read")
    assert case.statuses == [200]


def test_settings_may_be_a_dictionary(case: Tracked) -> None:
    """Objects, or where to import them from."""
    options = {
        "tracker": case.tracker,
        "exclude": ["/health*"],
        "trusted_proxies": ["203.0.113.0/24"],
        "identify": "django_site.id_of",
    }
    with django_site.site(options):
        server = WsgiServer(WSGIHandler())
        server.get("/healthz")
        server.get("/items/17/", HTTP_X_FORWARDED_FOR="9.9.9.9, 198.51.100.5")
    assert (case.request["ip_address"], case.request["user_id"]) == ("198.51.100.0", "u-17")


def test_an_unknown_setting_is_refused_by_name() -> None:
    """The nearest one is in the error."""
    with (
        django_site.site({"trackr": None}),
        pytest.raises(ImproperlyConfigured, match="got 'trackr'; did you mean 'tracker'"),
    ):
        WSGIHandler()
