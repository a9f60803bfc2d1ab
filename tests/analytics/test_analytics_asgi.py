"""The ASGI middleware over raw scopes: what ends a request, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from analytics_cases import unreachable
from analytics_requests import Tracked, tracked
from asgi_calls import acall, call, http_scope

from rambla_py.analytics import AsgiMiddleware, Tracker
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
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


def test_a_request_is_tracked_with_what_is_known_of_it(case: Tracked) -> None:
    """Method, masked path, status, duration, user agent and address."""
    answer = call(AsgiMiddleware(answering(START, LAST), case.tracker), "/items/17", "POST")
    assert (answer.status, answer.body) == (200, b"ok")
    event = case.request
    assert event["duration_ms"] >= 0
    assert (
        event.items()
        >= {
            "method": "POST",
            "path": "/items/{id}",
            "status_code": 200,
            "user_agent": "tests/1",
            "ip_address": "203.0.113.0",
        }.items()
    )


def test_the_request_ends_with_the_last_message_of_its_body(case: Tracked) -> None:
    """Not with the headers, and not with what the application does afterwards."""
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, CHUNK, CHUNK, LAST):
            seen.append(case.count)
            await send(message)
        seen.append(case.count)

    call(AsgiMiddleware(app, case.tracker), "/")
    assert seen == [0, 0, 0, 0, 1]
    assert case.statuses == [200]


@pytest.mark.parametrize(
    "messages",
    [
        [START, {"type": "http.response.pathsend", "path": "/srv/file"}],
        [START, {"type": "http.response.zerocopysend", "file": 1}],
        [{"type": "http.response.early_hint", "links": []}, START, LAST],
        [{**START, "trailers": True}, LAST, {"type": "http.response.trailers", "headers": []}],
    ],
)
def test_extensions_pass_through(case: Tracked, messages: list[dict[str, Any]]) -> None:
    """Files, hints and trailers reach the server as they are; the request is tracked once."""
    assert call(AsgiMiddleware(answering(*messages), case.tracker), "/").messages == messages
    assert case.statuses == [200]


@pytest.mark.parametrize("sent", [[], [START], [START, CHUNK]])
def test_an_exception_is_a_500_and_passes_on(case: Tracked, sent: list[dict[str, Any]]) -> None:
    """Before the headers, after them, and in the middle of the body."""
    error = ValueError("no such item")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)
        raise error

    with pytest.raises(ValueError, match="no such item") as caught:
        call(AsgiMiddleware(app, case.tracker), "/items/17")
    assert caught.value is error
    assert case.statuses == [500]
    (event,) = case.errors
    assert (event["error_type"], event["error_message"]) == ("ValueError", "no such item")
    assert (event["method"], event["path"], event["status_code"]) == ("GET", "/items/{id}", 500)


def test_an_exception_after_the_response_is_an_error_of_a_complete_request(case: Tracked) -> None:
    """The client got its 200; the background task's exception is an API Error beside it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        raise RuntimeError("background")

    with pytest.raises(RuntimeError):
        call(AsgiMiddleware(app, case.tracker), "/")
    assert case.statuses == [200]
    assert len(case.errors) == 1


def test_a_client_that_leaves_is_a_499(case: Tracked) -> None:
    """Whether the application returns then, or raises."""

    async def returning(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(CHUNK)
        await receive()

    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("the client is gone")

    call(AsgiMiddleware(returning, case.tracker), "/", incoming=[DISCONNECT])
    with pytest.raises(RuntimeError):
        call(AsgiMiddleware(raising, case.tracker), "/", incoming=[DISCONNECT])
    assert case.statuses == [499, 499]
    assert case.errors == []


def test_a_send_that_the_server_refuses_is_a_499(case: Tracked) -> None:
    """Servers of ASGI 2.4 raise an OSError when the client is gone."""

    def refuse(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        call(AsgiMiddleware(answering(START, CHUNK, LAST), case.tracker), "/", on_send=refuse)
    assert case.statuses == [499]
    assert case.errors == []


def test_an_oserror_of_the_application_is_a_500(case: Tracked) -> None:
    """Only those of ``send`` are the client's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise FileNotFoundError("template.html")

    with pytest.raises(FileNotFoundError):
        call(AsgiMiddleware(app, case.tracker), "/")
    assert case.statuses == [500]
    assert len(case.errors) == 1


def test_a_cancelled_request_is_a_499(case: Tracked) -> None:
    """The cancellation passes on, and is no error."""

    async def main() -> None:
        waiting = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            waiting.set()
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(acall(AsgiMiddleware(app, case.tracker), "/"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert case.statuses == [499]
    assert case.errors == []


def test_an_application_without_a_response_is_a_500(case: Tracked) -> None:
    """Servers answer so in its place."""
    call(AsgiMiddleware(answering(), case.tracker), "/")
    assert case.statuses == [500]


def test_web_sockets_pass_through(case: Tracked) -> None:
    """With the server's own ``receive`` and ``send``."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    scope, receive, send = {"type": "websocket"}, object(), object()
    asyncio.run(AsgiMiddleware(app, case.tracker)(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [scope, receive, send]
    assert case.events == []


def test_the_end_of_the_lifespan_waits_for_the_last_events() -> None:
    """Its messages pass; servers that end by their signal run no hook of an exit."""
    sent: list[tuple[str, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for kind in ("startup", "shutdown"):
            await send({"type": f"lifespan.{kind}.complete"})

    with Tracker("null:", batch_timeout_s=1_000) as tracker:
        tracker.track("waits for a batch")

        async def send(message: Any) -> None:
            sent.append((message["type"], tracker.audit().delivered))

        asyncio.run(AsgiMiddleware(app, tracker)({"type": "lifespan"}, app, send))
    assert sent == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


def test_events_that_are_left_at_the_end_of_the_lifespan_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The time for it is that of an exit; the application ends all the same."""
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with Tracker({**unreachable(), "rambla": {"exit_timeout_s": 0.05}}) as tracker:
        tracker.track("a")
        asyncio.run(AsgiMiddleware(app, tracker)({"type": "lifespan"}, app, send))
        tracker.close(0)
    assert sent == ["lifespan.shutdown.complete"]
    assert "the application ends; not delivered of its events: 1" in caplog.text


def test_excluded_paths_are_not_tracked(case: Tracked) -> None:
    """By the path of the request, not by its template."""
    app = AsgiMiddleware(answering(START, LAST), case.tracker, exclude=["/health*"])
    for path in ("/healthz", "/health/live", "/x"):
        call(app, path)
    assert case.paths == ["/x"]


def test_addresses_behind_a_trusted_proxy_come_from_its_headers(case: Tracked) -> None:
    """A header of any other peer is ignored."""
    headers = [(b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-for", b"198.51.100.5")]
    app = AsgiMiddleware(answering(START, LAST), case.tracker, trusted_proxies=["10.0.0.0/8"])
    for peer in (("10.0.0.7", 1), ("203.0.113.9", 1), None):
        call(app, "/", headers=headers, client=peer)
    call(app, "/", headers=[(b"forwarded", b"for=192.0.2.60")], client=("10.0.0.7", 1))
    found = [event["ip_address"] for event in case.events]
    assert found == ["198.51.100.0", "203.0.113.0", None, "192.0.2.0"]


def test_users_are_identified_when_the_request_ends(case: Tracked) -> None:
    """What the application put into the scope is there by then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = 17
        raise ValueError("no such item")

    app = AsgiMiddleware(app, case.tracker, identify=lambda scope: scope["user"])
    with pytest.raises(ValueError, match="no such item"):
        call(app, "/")
    assert [event["user_id"] for event in (*case.requests, *case.errors)] == ["17", "17"]


def test_nothing_that_fails_here_reaches_the_application(
    case: Tracked, caplog: pytest.LogCaptureFixture
) -> None:
    """A user that cannot be identified, or a scope that cannot be read: it is logged once."""

    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("broken")

    def fail(scope: Any) -> str:
        raise RuntimeError("broken")

    answer = answering(START, LAST)
    for identify in (fail, lambda scope: Unprintable()):
        app = AsgiMiddleware(answer, case.tracker, identify=identify)
        assert [call(app, "/").status for _ in range(3)] == [200, 200, 200]
    call(AsgiMiddleware(answer, case.tracker), "/", headers=None)
    assert case.statuses == [200] * 6
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_not_even_debugging_breaks_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """A tracker raises then what is wrong with an event."""
    with tracked(debug=True) as case:
        app = AsgiMiddleware(answering({**START, "status": "many"}, LAST), case.tracker)
        assert call(app, "/").status == "many"
        assert case.tracker.audit().refused == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_tracker_that_is_switched_off_costs_nothing() -> None:
    """The application gets the server's own ``send``."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    with tracked(enabled=False) as case:
        given = (http_scope("/"), object(), object())
        asyncio.run(AsgiMiddleware(app, case.tracker)(*given))  # type: ignore[arg-type]
    assert seen == list(given)


def test_the_settings_hold_for_all_middleware() -> None:
    """Paths and proxies of ``[rambla.analytics]`` count beside those of the call."""
    settings = {"exclude_paths": ["/health*"], "trusted_proxies": ["10.0.0.0/8"]}
    with tracked(settings) as case:
        app = AsgiMiddleware(
            answering(START, LAST), case.tracker, exclude="/metrics", trusted_proxies="192.0.2.1"
        )
        for path in ("/healthz", "/metrics", "/x"):
            for peer in ("10.0.0.7", "192.0.2.1"):
                call(app, path, headers=[(b"x-forwarded-for", b"198.51.100.5")], client=(peer, 1))
        assert [(event["path"], event["ip_address"]) for event in case.requests] == [
            ("/x", "198.51.100.0")
        ] * 2


def test_sampling_keeps_server_errors(case: Tracked) -> None:
    """Whatever the share is; those that are left out are counted."""
    app = AsgiMiddleware(answering(START, LAST), case.tracker, sample=0)
    failing = AsgiMiddleware(answering({**START, "status": 503}, LAST), case.tracker, sample=0)
    for _ in range(3):
        call(app, "/")
        call(failing, "/")
    assert case.statuses == [503, 503, 503]
    assert case.tracker.audit().sampled == 3


def test_a_share_is_written_to_the_event(case: Tracked) -> None:
    """Reports multiply by it; it wins over the tracker's."""
    app = AsgiMiddleware(answering(START, LAST), case.tracker, sample=0.999_999)
    call(app, "/")
    assert case.request["sample_rate"] == 0.999_999
    with tracked(sample=0) as other:
        call(AsgiMiddleware(answering(START, LAST), other.tracker, sample=1), "/")
        call(AsgiMiddleware(answering(START, LAST), other.tracker), "/")
        assert [event["sample_rate"] for event in other.requests] == [1.0]


def test_a_share_or_a_tracker_that_is_none_is_refused(case: Tracked) -> None:
    """The error says what was expected."""
    with pytest.raises(AnalyticsError, match=r"sample: expected a share from 0 to 1; got 2"):
        AsgiMiddleware(answering(), case.tracker, sample=2)
    with pytest.raises(AnalyticsError, match=r"tracker: expected a Tracker; got str"):
        AsgiMiddleware(answering(), "sqlite:///analytics.db")  # type: ignore[arg-type]


def test_unknown_methods_are_one(case: Tracked) -> None:
    """Clients may send any word as the method."""
    call(AsgiMiddleware(answering(START, LAST), case.tracker), "/", "X-4711")
    assert case.request["method"] == "(OTHER)"
