"""Instrumented HTTP clients: HTTPX, sync and async, and Requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import requests
from analytics_requests import Tracked, tracked
from web_server import Reply, WebServer

from rambla_py.analytics.instrument.httpx import AsyncHttpxTransport, HttpxTransport
from rambla_py.analytics.instrument.requests import requests_adapter
from rambla_py.runtime.worker_threads import enter_worker, leave_worker
from rambla_py.testing.ports import HOST, free_port

Get = Callable[[str, "str | None"], int]
"""Requests a URL by a client that is instrumented, and returns the status."""


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    answers = {
        "/missing": Reply(404),
        "/gone": Reply(cut=True),
        "/moved": Reply(302, headers={"Location": "/"}),
    }
    with WebServer() as server:
        server.answer = lambda seen: answers.get(seen.path, Reply(200, b"ok"))
        yield server


@pytest.fixture
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


@pytest.fixture(params=["httpx", "httpx, async", "requests"])
def get(request: pytest.FixtureRequest, case: Tracked) -> Get:
    def by_httpx(url: str, service: str | None) -> int:
        with httpx.Client(transport=HttpxTransport(case.tracker, service=service)) as client:
            return client.get(url, follow_redirects=True).status_code

    def by_async_httpx(url: str, service: str | None) -> int:
        async def main() -> int:
            async with httpx.AsyncClient(
                transport=AsyncHttpxTransport(case.tracker, service=service)
            ) as client:
                return (await client.get(url, follow_redirects=True)).status_code

        return asyncio.run(main())

    def by_requests(url: str, service: str | None) -> int:
        with requests.Session() as session:
            session.mount("http://", requests_adapter(case.tracker, service=service))
            return session.get(url, timeout=20).status_code

    return {"httpx": by_httpx, "httpx, async": by_async_httpx, "requests": by_requests}[request.param]


def test_calls_are_tracked_without_their_values(get: Get, case: Tracked, server: WebServer) -> None:
    """The host, a masked path without its query, and the status."""
    assert get(f"{server.url}/items/17?token=canary#canary", None) == 200
    (call,) = case.calls
    assert call["api_duration_ms"] >= 0
    assert call["properties"] == {"method": "GET"}
    assert (
        call.items()
        >= {
            "api_service": HOST,
            "api_endpoint": "/items/{id}",
            "api_success": True,
            "api_status_code": 200,
        }.items()
    )


def test_a_status_of_an_error_is_no_success(get: Get, case: Tracked, server: WebServer) -> None:
    """The service may be named."""
    assert get(f"{server.url}/missing", "billing") == 404
    (call,) = case.calls
    assert (call["api_service"], call["api_success"], call["api_status_code"]) == ("billing", False, 404)


def test_each_redirect_is_a_call(get: Get, case: Tracked, server: WebServer) -> None:
    """It took a request of its own."""
    assert get(f"{server.url}/moved", None) == 200
    assert [call["api_status_code"] for call in case.calls] == [302, 200]


def test_calls_without_a_response_are_tracked(get: Get, case: Tracked, server: WebServer) -> None:
    """No server, and a connection that ends before the answer: the error passes on, and is named."""
    for url in (f"http://{HOST}:{free_port()}/x", f"{server.url}/gone"):
        with pytest.raises((httpx.TransportError, requests.ConnectionError)):
            get(url, None)
    assert [call["api_success"] for call in case.calls] == [False, False]
    assert all(call["properties"]["error_type"].endswith("Error") for call in case.calls)
    assert [call.get("api_status_code") for call in case.calls] == [None, None]


def test_what_runs_in_a_worker_is_left_alone(get: Get, case: Tracked, server: WebServer) -> None:
    """It may be what sends the events."""
    enter_worker()
    try:
        assert get(f"{server.url}/", None) == 200
    finally:
        leave_worker()
    assert case.calls == []


def test_a_wrapped_transport_sends_and_is_closed(case: Tracked) -> None:
    """Ours adds nothing but the event; after ``uninstrument()`` not even that."""

    class Canned(httpx.BaseTransport):
        is_closed = False

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(204)

        def close(self) -> None:
            self.is_closed = True

    canned = Canned()
    transport = HttpxTransport(case.tracker, canned)
    with httpx.Client(transport=transport) as client:
        assert client.get("http://shop.example/").status_code == 204
        transport.uninstrument()
        assert client.get("http://shop.example/").status_code == 204
    assert canned.is_closed
    assert len(case.calls) == 1


def test_uninstrumented_clients_stay_usable(case: Tracked, server: WebServer) -> None:
    """Their calls are tracked no more."""
    adapter = requests_adapter(case.tracker)
    with requests.Session() as session:
        session.mount("http://", adapter)
        adapter.uninstrument()
        assert session.get(f"{server.url}/", timeout=20).status_code == 200

    async def main() -> None:
        transport = AsyncHttpxTransport(case.tracker)
        transport.uninstrument()
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get(f"{server.url}/")).status_code == 200

    asyncio.run(main())
    assert case.calls == []


def test_a_cancelled_call_is_tracked(case: Tracked) -> None:
    """It never got a response."""

    class Waiting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sending.set()
            return await asyncio.get_running_loop().create_future()

    sending = asyncio.Event()

    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncHttpxTransport(case.tracker, Waiting())) as client:
            task: asyncio.Task[Any] = asyncio.create_task(client.get("http://shop.example/"))
            await sending.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert [call["properties"]["error_type"] for call in case.calls] == ["CancelledError"]
