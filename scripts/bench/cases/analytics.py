"""The cases of analytics: what an event costs beside Segment's and PostHog's clients, and beside SQLite."""

from __future__ import annotations

import importlib
import sqlite3
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.case import Case, Context, Figures, Goal, memory_mb, rate, stopwatch
from bench.cases.trickle import alone
from rambla_py.analytics import TABLES, Tracker

__all__ = ["ANALYTICS_CASES"]

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
FIELDS = {
    "method": "GET",
    "path": "/orders/{id}",
    "status_code": 200,
    "duration_ms": 12.5,
    "user_agent": AGENT,
    "ip_address": "203.0.113.7",
}
BATCH = 500
PENDING = 1_000_000


def _tracker(
    service: str, connection: dict[str, Any], options: dict[str, Any] | None = None, **arguments: Any
) -> Tracker:
    """Return a tracker whose mailbox takes all events of a case."""
    table = {
        service: {
            "connections": {"default": connection},
            "channels": {
                "analytics": {"connection": "default", "max_pending": PENDING, "options": options or {}}
            },
        }
    }
    return Tracker(table, **arguments)


def _requests(tracker: Tracker, count: int) -> None:
    track = tracker.track_api_request
    for _ in range(count):
        track("GET", "/orders/{id}", 200, 12.5, user_agent=AGENT, ip_address="203.0.113.7")


def _delivered(tracker: Tracker, count: int) -> None:
    assert tracker.flush(timeout_s=240)
    audit = tracker.audit()
    assert audit.delivered == count, audit


# -- a call, with nothing to send it to ----------------------------------------------------------------


def _to_null(context: Context) -> Figures:
    count = context.count(100_000)
    with _tracker("null", {}) as tracker:
        _requests(tracker, 1_000)
        assert tracker.flush(timeout_s=60)
        with stopwatch() as watch:
            _requests(tracker, count)
            _delivered(tracker, count + 1_000)
    return rate(count, watch)


def _segment(host: str | None = None, **options: Any) -> Any:
    module: Any = importlib.import_module("segment.analytics.client")
    return module.Client("key", host=host, max_queue_size=PENDING, upload_size=BATCH, **options)


def _posthog(host: str | None = None, **options: Any) -> Any:
    module: Any = importlib.import_module("posthog")
    return module.Posthog("key", host=host, max_queue_size=PENDING, flush_at=BATCH, **options)


def _segment_unsent(context: Context) -> Figures:
    count, client = context.count(20_000), _segment(send=False)
    with stopwatch() as watch:
        for _ in range(count):
            client.track("u-1", "API Call", dict(FIELDS))
    return rate(count, watch)


def _posthog_unsent(context: Context) -> Figures:
    count, client = context.count(20_000), _posthog(send=False)
    with stopwatch() as watch:
        for _ in range(count):
            client.capture("API Call", distinct_id="u-1", properties=dict(FIELDS))
    return rate(count, watch)


CALL = Case(
    name="analytics",
    title="track_api_request to null, delivered and counted, beside clients that send nothing",
    contenders={"rambla": _to_null, "Segment": _segment_unsent, "PostHog": _posthog_unsent},
    goals=(
        Goal("CPU of an event, Segment / rambla (at least 3)", "Segment", "rambla", "cpu_us", least=3),
        Goal("CPU of an event, PostHog / rambla (at least 6)", "PostHog", "rambla", "cpu_us", least=6),
    ),
)

# -- to an HTTP server ---------------------------------------------------------------------------------


def _taken(context: Context, count: int) -> None:
    with urllib.request.urlopen(f"{context.servers['http']}/taken") as answer:
        events = int(answer.read().split()[0])
    assert events == count, f"the server took {events} events, not {count}"


def _to_http(context: Context) -> Figures:
    count = context.count(100_000)
    connection = {"url": f"{context.servers['http']}/in"}
    options = {"body_format": "batch"}
    with _tracker("http", connection, options, batch_size=BATCH) as tracker, stopwatch() as watch:
        _requests(tracker, count)
        _delivered(tracker, count)
    _taken(context, count)
    return rate(count, watch)


def _segment_to_http(context: Context) -> Figures:
    count, client = context.count(100_000), _segment(context.servers["http"])
    with stopwatch() as watch:
        for _ in range(count):
            client.track("u-1", "API Call", dict(FIELDS))
        client.flush()
    _taken(context, count)
    return rate(count, watch)


def _posthog_to_http(context: Context) -> Figures:
    count, client = context.count(20_000), _posthog(context.servers["http"])
    with stopwatch() as watch:
        for _ in range(count):
            client.capture("API Call", distinct_id="u-1", properties=dict(FIELDS))
        client.flush(None)
    _taken(context, count)
    return rate(count, watch)


HTTP = Case(
    name="analytics_http",
    title="events to a local HTTP server, in batches of 500",
    servers=("http",),
    contenders={"rambla": _to_http, "Segment": _segment_to_http, "PostHog": _posthog_to_http},
    goals=(
        Goal("events a second, rambla / Segment (at least 4)", "rambla", "Segment", least=4),
        Goal("CPU of an event, Segment / rambla (at least 3)", "Segment", "rambla", "cpu_us", least=3),
    ),
)

# -- nine tables on SQLite -----------------------------------------------------------------------------

MIXED: tuple[Callable[[Tracker], object], ...] = (
    lambda to: to.track_api_request("GET", "/orders/{id}", 200, 12.5, user_agent=AGENT),
    lambda to: to.track_db_query("SELECT a FROM t WHERE b = 1", 0.5, True, dialect="sqlite"),
    lambda to: to.track_user_auth("login", "u-1", True),
    lambda to: to.track_payment("charge", "99.99", "USD", True, order_id="o-17"),
    lambda to: to.track_email_send("ada@example.com", "welcome", True),
    lambda to: to.track_file_operation("upload", "image/png", 2_048, True),
    lambda to: to.track_external_api_call("bank", "/pay", 12.5, True),
    lambda to: to.track("Signup", plan="pro"),
    lambda to: to.track_api_error(KeyError("total"), method="POST", path="/pay"),
)
ROWS = len(MIXED) + 1  # an error is a row of two tables


def _mix(tracker: Tracker, count: int) -> None:
    for _ in range(count):
        for track in MIXED:
            track(tracker)


def _to_sqlite(context: Context) -> Figures:
    rounds = context.count(3_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        with _tracker("sql", {"url": f"sqlite:///{path}"}) as tracker:
            _mix(tracker, 1)
            _delivered(tracker, len(MIXED))
            with stopwatch() as watch:
                _mix(tracker, rounds)
                _delivered(tracker, (rounds + 1) * len(MIXED))
        _counted(path, (rounds + 1) * ROWS)
    return rate(rounds * ROWS, watch)


def _executemany(context: Context) -> Figures:
    """Write rows that are ready into the same tables, in transactions of 500 rows."""
    rounds = context.count(3_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        with _tracker("sql", {"url": f"sqlite:///{path}"}) as tracker:
            _mix(tracker, 1)
            _delivered(tracker, len(MIXED))
        connection = sqlite3.connect(path)
        ready = [
            (table, row[1:])
            for table in TABLES
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
        ]
        with stopwatch() as watch:
            for first in range(0, rounds, BATCH // ROWS):
                number = min(BATCH // ROWS, rounds - first)
                with connection:
                    for table, values in ready:
                        rows = [(uuid.uuid4().hex, *values) for _ in range(number)]
                        marks = ", ".join("?" * (len(values) + 1))
                        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.close()
        _counted(path, (rounds + 1) * ROWS)
    return rate(rounds * ROWS, watch)


def _counted(path: Path, rows: int) -> None:
    connection = sqlite3.connect(path)
    found = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
    connection.close()
    assert found == rows, f"the file has {found} rows, not {rows}"


def _a_million(context: Context) -> Figures:
    """Write a million rows, some thousand at a time, and return by how much the memory has grown."""
    rounds, begun = context.count(1_000_000) // ROWS, 0.0
    with tempfile.TemporaryDirectory() as folder, Tracker(f"sqlite:///{folder}/events.db") as tracker:
        with stopwatch() as watch:
            for done in range(0, rounds, 500):
                _mix(tracker, min(500, rounds - done))
                assert tracker.flush(timeout_s=60)
                begun = begun or memory_mb()
        assert tracker.audit().delivered == rounds * len(MIXED), tracker.audit()
    return rate(rounds * ROWS, watch, peak_mb=memory_mb(), grown_mb=memory_mb() - begun)


SQLITE_MIXED, BARE = "rambla", "executemany of 500, rows ready"

SQLITE = Case(
    name="analytics_sqlite",
    title="events of all kinds into nine tables of SQLite (WAL); figures of one row",
    contenders={SQLITE_MIXED: _to_sqlite, BARE: _executemany},
    goals=(
        Goal("CPU of a row, executemany / rambla (at least 0.2)", BARE, SQLITE_MIXED, "cpu_us", least=0.2),
        Goal("rows a second, rambla / executemany (at least 0.3)", SQLITE_MIXED, BARE, least=0.3),
    ),
)
MEMORY = Case(
    name="analytics_memory",
    title="a million rows of events of all kinds into SQLite, as one process does",
    contenders={SQLITE_MIXED: _a_million},
)

# -- one event at a time -------------------------------------------------------------------------------


def _alone(url: str) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(4_000)
        with tempfile.TemporaryDirectory() as folder, Tracker(url.format(folder=folder)) as tracker:
            _requests(tracker, 100)
            assert tracker.flush(timeout_s=60)
            figures = alone(count, lambda: _requests(tracker, 1))
            _delivered(tracker, count + 100)
        return figures

    return run


ALONE = Case(
    name="analytics_alone",
    title="events that come alone, half a millisecond apart, with the default batch of 10",
    contenders={
        "to null": _alone("null:"),
        "to SQLite": _alone("sqlite:///{folder}/events.db"),
    },
)

# -- a dead backend ------------------------------------------------------------------------------------


def _latencies(url: str) -> Callable[[Context], Figures]:
    """Track one event every 50 microseconds, as a server does, and time each call by itself."""

    def run(context: Context) -> Figures:
        count, took, clock = context.count(40_000), [], time.perf_counter_ns
        with Tracker(url.format(**context.servers)) as tracker:
            _requests(tracker, 100)
            due = clock()
            for _ in range(count):
                due += 50_000
                while clock() < due:
                    pass
                began = clock()
                _requests(tracker, 1)
                took.append(clock() - began)
            tracker.close(0)
        took.sort()
        return {"p50_us": took[count // 2] / 1e3, "p95_us": took[count * 95 // 100] / 1e3}

    return run


DEAD, ALIVE = "backend dead", "backend alive"

STALL = Case(
    name="analytics_stall",
    title="a call of track_api_request, 20,000 a second, with a PostgreSQL and with none",
    servers=("postgres",),
    contenders={DEAD: _latencies("postgresql://127.0.0.1:1/analytics"), ALIVE: _latencies("{postgres}")},
    goals=(Goal("p95 dead / alive (at most 5)", DEAD, ALIVE, figure="p95_us", most=5),),
)

ANALYTICS_CASES = (CALL, HTTP, SQLITE, MEMORY, ALONE, STALL)
