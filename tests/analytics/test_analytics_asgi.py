"""The ASGI middleware over raw scopes: what ends a request, and how."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi_calls import Recorder, acall, call

from rambla_py.analytics import AsgiMiddleware
from rambla_py.analytics.errors import AnalyticsError

START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"ok"}
CHUNK = {"type": "http.response.body", "body": b"chunk", "more_body": True}
DISCONNECT = {"type": "http.disconnect"}


def answering(*messages: dict[str, Any]) -> Any:
    """Return an application that sends these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_request_is_tracked_with_what_is_known_of_it(recorder: Recorder) -> None:
    """Method, masked path, status, duration, user agent and address."""
    answer = call(AsgiMiddleware(answering(START, LAST), recorder), "/items/17", "POST")
    assert (answer.status, answer.body) == (200, b"ok")
    (event,) = recorder.events
    assert event.pop("duration_ms") >= 0
    assert event == {
        "is": "request",
        "method": "POST",
        "path": "/items/{id}",
        "status_code": 200,
        "user_agent": "tests/1",
        "ip_address": "203.0.113.9",
    }


def test_the_request_ends_with_the_last_message_of_its_body(recorder: Recorder) -> None:
    """Not with the headers, and not with what the application does afterwards."""
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, CHUNK, CHUNK, LAST):
            seen.append(len(recorder.events))
            await send(message)
        seen.append(len(recorder.events))

    call(AsgiMiddleware(app, recorder), "/")
    assert seen == [0, 0, 0, 0, 1]
    assert recorder.statuses == [200]


@pytest.mark.parametrize(
    "messages",
    [
        [START, {"type": "http.response.pathsend", "path": "/srv/file"}],
        [START, {"type": "http.response.zerocopysend", "file": 1}],
        [{"type": "http.response.early_hint", "links": []}, START, LAST],
        [{**START, "trailers": True}, LAST, {"type": "http.response.trailers", "headers": []}],
    ],
)
def test_extensions_pass_through(recorder: Recorder, messages: list[dict[str, Any]]) -> None:
    """Files, hints and trailers reach the server as they are; the request is tracked once."""
    assert call(AsgiMiddleware(answering(*messages), recorder), "/").messages == messages
    assert recorder.statuses == [200]


@pytest.mark.parametrize("sent", [[], [START], [START, CHUNK]])
def test_an_exception_is_a_500_and_passes_on(recorder: Recorder, sent: list[dict[str, Any]]) -> None:
    """Before the headers, after them, and in the middle of the body."""
    error = ValueError("no such item")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)
        raise error

    with pytest.raises(ValueError, match="no such item") as caught:
        call(AsgiMiddleware(app, recorder), "/items/17")
    assert caught.value is error
    assert recorder.statuses == [500]
    (event,) = recorder.errors
    assert event == {"is": "error", "error": error, "method": "GET", "path": "/items/{id}"}


def test_an_exception_after_the_response_is_an_error_of_a_complete_request(recorder: Recorder) -> None:
    """The client got its 200; the background task's exception is an API Error beside it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        raise RuntimeError("background")

    with pytest.raises(RuntimeError):
        call(AsgiMiddleware(app, recorder), "/")
    assert recorder.statuses == [200]
    assert len(recorder.errors) == 1


def test_a_client_that_leaves_is_a_499(recorder: Recorder) -> None:
    """Whether the application returns then, or raises."""

    async def returning(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(CHUNK)
        await receive()

    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("the client is gone")

    call(AsgiMiddleware(returning, recorder), "/", incoming=[DISCONNECT])
    with pytest.raises(RuntimeError):
        call(AsgiMiddleware(raising, recorder), "/", incoming=[DISCONNECT])
    assert recorder.statuses == [499, 499]
    assert recorder.errors == []


def test_a_send_that_the_server_refuses_is_a_499(recorder: Recorder) -> None:
    """Servers of ASGI 2.4 raise an OSError when the client is gone."""

    def refuse(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        call(AsgiMiddleware(answering(START, CHUNK, LAST), recorder), "/", on_send=refuse)
    assert recorder.statuses == [499]
    assert recorder.errors == []


def test_an_oserror_of_the_application_is_a_500(recorder: Recorder) -> None:
    """Only those of ``send`` are the client's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise FileNotFoundError("template.html")

    with pytest.raises(FileNotFoundError):
        call(AsgiMiddleware(app, recorder), "/")
    assert recorder.statuses == [500]
    assert len(recorder.errors) == 1


def test_a_cancelled_request_is_a_499(recorder: Recorder) -> None:
    """The cancellation passes on, and is no error."""

    async def main() -> None:
        waiting = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            waiting.set()
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(acall(AsgiMiddleware(app, recorder), "/"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert recorder.statuses == [499]
    assert recorder.errors == []


def test_an_application_without_a_response_is_a_500(recorder: Recorder) -> None:
    """Servers answer so in its place."""
    call(AsgiMiddleware(answering(), recorder), "/")
    assert recorder.statuses == [500]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_other_protocols_pass_through(recorder: Recorder, kind: str) -> None:
    """With the server's own ``receive`` and ``send``."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    scope, receive, send = {"type": kind}, object(), object()
    asyncio.run(AsgiMiddleware(app, recorder)(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [scope, receive, send]
    assert recorder.events == []


def test_excluded_paths_are_not_tracked(recorder: Recorder) -> None:
    """By the path of the request, not by its template."""
    app = AsgiMiddleware(answering(START, LAST), recorder, exclude=["/health*"])
    for path in ("/healthz", "/health/live", "/x"):
        call(app, path)
    assert recorder.paths == ["/x"]


def test_addresses_behind_a_trusted_proxy_come_from_its_headers(recorder: Recorder) -> None:
    """A header of any other peer is ignored."""
    headers = [(b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-for", b"198.51.100.5")]
    app = AsgiMiddleware(answering(START, LAST), recorder, trusted_proxies=["10.0.0.0/8"])
    for peer in (("10.0.0.7", 1), ("203.0.113.9", 1), None):
        call(app, "/", headers=headers, client=peer)
    call(app, "/", headers=[(b"forwarded", b"for=192.0.2.60")], client=("10.0.0.7", 1))
    found = [event["ip_address"] for event in recorder.events]
    assert found == ["198.51.100.5", "203.0.113.9", None, "192.0.2.60"]


def test_users_are_identified_when_the_request_ends(recorder: Recorder) -> None:
    """What the application put into the scope is there by then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = 17
        raise ValueError("no such item")

    app = AsgiMiddleware(app, recorder, identify=lambda scope: scope["user"])
    with pytest.raises(ValueError, match="no such item"):
        call(app, "/")
    assert [event["user_id"] for event in recorder.events] == ["17", "17"]


def test_nothing_that_fails_here_reaches_the_application(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once."""

    def fail(*args: Any, **fields: Any) -> None:
        raise RuntimeError("broken")

    class Broken:
        track_api_request = track_api_error = staticmethod(fail)

    answer = answering(START, LAST)
    assert call(AsgiMiddleware(answer, recorder, identify=fail), "/").status == 200
    assert recorder.statuses == [200]
    app = AsgiMiddleware(answer, Broken())
    assert [call(app, "/").status for _ in range(3)] == [200, 200, 200]
    call(AsgiMiddleware(answer, recorder), "/", headers=None)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_sampling_keeps_server_errors(recorder: Recorder) -> None:
    """Whatever the share is."""
    app = AsgiMiddleware(answering(START, LAST), recorder, sample=0)
    failing = AsgiMiddleware(answering({**START, "status": 503}, LAST), recorder, sample=0)
    for _ in range(3):
        call(app, "/")
        call(failing, "/")
    assert recorder.statuses == [503, 503, 503]


def test_a_share_that_is_none_is_refused(recorder: Recorder) -> None:
    """The error says what was expected."""
    with pytest.raises(AnalyticsError, match=r"sample: expected a share from 0 to 1; got 2"):
        AsgiMiddleware(answering(), recorder, sample=2)


def test_unknown_methods_are_one(recorder: Recorder) -> None:
    """Clients may send any word as the method."""
    call(AsgiMiddleware(answering(START, LAST), recorder), "/", "X-4711")
    assert [event["method"] for event in recorder.events] == ["(other)"]
