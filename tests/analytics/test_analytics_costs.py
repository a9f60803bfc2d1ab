"""What a request costs that is tracked, counted: figures that no busy machine can blur.

Lower a bound when you made it smaller. They were counted with CPython 3.11; others make a few calls less.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counted_calls import Calls
from counted_costs import CountedCalls
from small_apps import TIMEOUT_S, until

from rambla_py.analytics import AsgiMiddleware, Tracker
from rambla_py.sql.bulk import Statements
from rambla_py.sql.dialects.sqlite import SqliteWriter
from rambla_py.sql.errors import SqlError

MANY = 200
LONG_S = 60.0
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}


class Route:
    """A route, as a router leaves it in the scope."""

    path = "/items/{id}"

    def endpoint(self) -> None:
        """Answer."""


ROUTE = Route()
ENDPOINT = ROUTE.endpoint
ROUTE.endpoint = ENDPOINT  # type: ignore[method-assign]  # the same object each time it is looked at


class Router:
    """A router with one route."""

    routes = (ROUTE,)


def scope() -> dict[str, Any]:
    headers = [(b"host", b"shop.example"), (b"user-agent", b"curl/8"), (b"accept", b"*/*")]
    return {
        "type": "http",
        "method": "GET",
        "path": "/items/17",
        "root_path": "",
        "client": ("203.0.113.9", 5_000),
        "headers": headers,
        "router": Router,
        "route": ROUTE,
        "endpoint": ENDPOINT,
    }


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


async def requests(app: Any, number: int, calls: Calls | None = None) -> None:
    """Make so many requests; count those behind the first ten."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    for _ in range(10):
        await app(scope(), receive, send)
    if calls is not None:
        with calls.counting():
            for _ in range(number):
                await app(scope(), receive, send)


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    """A tracker whose batches do not fill during a test."""
    with Tracker("null:", batch_size=500, batch_timeout_s=LONG_S) as tracker:
        tracker.track_api_request("GET", "/", 200, 1.0)
        target = _target(tracker)
        assert until(lambda: target.gathering.on and target.wakeup.idle)
        yield tracker


def _target(tracker: Tracker) -> Any:
    assert tracker._life is not None
    (target,) = tracker._life.app._targets()
    return target


def test_a_tracked_request_makes_few_calls_more(tracker: Tracker) -> None:
    """In the thread of the application: its messages watched, one event, and its place in a batch."""
    bare, ours = Calls(), Calls()
    asyncio.run(requests(application, MANY, bare))
    asyncio.run(requests(AsgiMiddleware(application, tracker), MANY, ours))
    assert ours.found["Wakeup.wake"] == 0
    more = ours.per_message(MANY) - bare.per_message(MANY)
    assert 20 <= more <= 38.1, ours.found.most_common(40)


def test_an_event_of_a_batch_makes_few_calls_in_the_worker(tmp_path: Path) -> None:
    """The rows of a batch are made, written and counted together: what grows with them is in C."""
    counted, found = CountedCalls(), {}
    with Tracker(f"sqlite:///{tmp_path}/events.db", batch_size=500, batch_timeout_s=LONG_S) as tracker:
        with counted.installed():  # the first event starts the worker
            tracker.track_api_request("GET", "/", 200, 1.0)
        target = _target(tracker)
        for size in (50, 250):
            least = []
            for _ in range(8):
                for _ in range(size):
                    tracker.track_api_request("GET", "/items/{id}", 200, 1.0, user_agent="curl/8")
                counted.calls.clear()
                counted.on = True
                assert tracker.flush(TIMEOUT_S)
                assert until(lambda: bool(target.wakeup.idle))
                counted.on = False
                least.append(counted.number)
            found[size] = min(least)
    assert 0 < (found[250] - found[50]) / 200 <= 9.6, counted.calls.most_common(20)


@pytest.mark.parametrize(("rows", "most"), [(1, 1), (10, 1), (24, 2), (48, 3), (100, 4), (124, 6)])
def test_rows_take_few_statements(rows: int, most: int) -> None:
    """Each statement releases the interpreter, and under a busy event loop that is a thread switch."""
    executed: list[str] = []
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (a, b)")
    writer = SqliteWriter(connection, Statements("t", 2, "INSERT INTO t (a, b)", "(?, ?)"), SqlError)
    writer.write_all([(0, 0)])
    connection.set_trace_callback(executed.append)
    writer.write_all([(number, -number) for number in range(rows)])
    connection.set_trace_callback(None)
    inserts = [text for text in executed if text.startswith("INSERT")]
    assert len(inserts) == most
    assert len(executed) - len(inserts) <= 4  # BEGIN and COMMIT, and the waiting of SQLite off and on
    assert connection.execute("SELECT count(*), sum(a + b) FROM t").fetchone() == (rows + 1, 0)
