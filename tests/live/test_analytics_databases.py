"""Tests of a tracker on each database: the tables, restarts, added columns, many processes, odd values."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from analytics_cases import track_each
from analytics_stores import STORES, Store, opened

from rambla_py.analytics import TABLES, Tracker

ROWS = dict.fromkeys(TABLES, 1) | {"api_events": 2, "database_events": 2}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, request, tmp_path, "order_events") as store:
        yield store


def delivered(tracker: Tracker, number: int) -> None:
    """Wait until so many events are in the database."""
    assert tracker.flush(60)
    assert (tracker.audit().delivered, tracker.audit().reasons) == (number, {})


def test_each_event_is_a_row_of_its_table(store: Store) -> None:
    """Values come back as they were; a tracker made later finds the tables there."""
    at = datetime.datetime.now(datetime.UTC)
    with Tracker(store.url) as tracker, tracker.context(user_id="u-1", request_id="r-1"):
        track_each(tracker)
        delivered(tracker, 11)
    assert store.counts() == ROWS
    (payment,) = store.rows("payment_events")
    assert (Decimal(payment["payment_amount"]), payment["payment_currency"]) == (Decimal("99.99"), "USD")
    assert (payment["user_id"], payment["properties"]) == ("u-1", {"order_id": "o-17"})
    assert payment["context"]["request_id"] == "r-1"
    assert abs(_moment(payment["timestamp"]) - at) < datetime.timedelta(seconds=120)
    (call,) = store.rows("external_api_events")
    assert (call["api_duration_ms"], bool(call["api_success"]), int(call["api_status_code"])) == (
        12.5,
        True,
        201,
    )
    (file,) = store.rows("file_operation_events")
    assert (int(file["file_size"]), file["file_type"]) == (2_048, "image/png")

    with Tracker(store.url) as tracker:
        track_each(tracker)
        delivered(tracker, 11)
    assert store.counts() == {table: 2 * number for table, number in ROWS.items()}


def test_odd_values_are_a_row_each(store: Store) -> None:
    """Whatever they are, no database refuses them."""
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    odd = [
        Decimal("NaN"),
        float("inf"),
        datetime.date(2024, 1, 15),
        {1, 2},
        b"\xff\x00",
        "\ud800",
        "a\x00b",
        cycle,
        deep,
        object(),
        2**80,
    ]
    with Tracker(store.url) as tracker:
        for value in odd:
            tracker.track("odd", value=value)
        for text in ("\ud800", "a\x00b", "x" * 10_000_000):
            tracker.track_api_request("GET", text, 200, 1.0, user_agent=text)
            tracker.track_api_error(ValueError(text), path=text)
        delivered(tracker, len(odd) + 6)
    assert store.count("custom_events") == len(odd)
    cut = max((row["path"] for row in store.rows("api_events")), key=len)
    assert cut.endswith("…[cut]")
    assert len(cut) <= 8_192 + len("…[cut]")


def test_a_column_of_the_database_is_left_alone(store: Store) -> None:
    """One that was added by hand has no value in new rows."""
    with Tracker(store.url) as tracker:
        tracker.track("a")
        delivered(tracker, 1)
    kind = "Nullable(String)" if store.kind == "clickhouse" else "varchar(20)"
    store.execute(f"ALTER TABLE custom_events ADD COLUMN note {kind}")
    with Tracker(store.url) as tracker:
        tracker.track("b", note="x")
        delivered(tracker, 1)
    assert [(row["event"], row["note"], row["properties"]) for row in store.rows("custom_events")] == [
        ("a", None, {}),
        ("b", None, {"note": "x"}),
    ]


@pytest.mark.parametrize("store", STORES[:3], indirect=True)
def test_a_column_that_a_rule_gets_is_added(store: Store) -> None:
    """Rows from before have no value in it."""
    rule: dict[str, Any] = {
        "action": "order_*",
        "tables": ["order_events"],
        "columns": {"total": "numeric(38, 9)"},
    }
    for columns in ({}, {"city": "varchar(40)"}):
        rule["columns"] = {**rule["columns"], **columns}
        with Tracker(_config(store, {"rules": [rule]})) as tracker:
            tracker.track("a", event_action="order_paid", total=12.5, city="Oslo")
            delivered(tracker, 1)
    first, second = store.rows("order_events")
    assert (Decimal(first["total"]), first["city"], first["properties"]) == (
        Decimal("12.5"),
        None,
        {"city": "Oslo"},
    )
    assert (Decimal(second["total"]), second["city"], second["properties"]) == (Decimal("12.5"), "Oslo", {})


_PROGRAM = """
import gc, os, sys
from rambla_py.analytics import Tracker

def write():
    tracker = Tracker(sys.argv[1], batch_size=5)
    for number in range(40):
        tracker.track_payment("charge", number, "EUR", True)
        tracker.track_api_error(ValueError(number))
    assert tracker.flush(100), tracker
    assert tracker.audit().delivered == 80, tracker

for name in sys.argv[2].split():
    __import__(name)  # once for all: the imports of ten processes take longer than what they write
gc.freeze()
children = []
for _ in range(10):
    pid = os.fork()
    if not pid:
        write()
        sys.exit()
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""
_IMPORTED = {
    "sqlite": "rambla_py.handlers.sql sqlalchemy.dialects.sqlite",
    "postgres": "rambla_py.handlers.sql psycopg sqlalchemy.dialects.postgresql",
    "mariadb": "rambla_py.handlers.sql pymysql sqlalchemy.dialects.mysql",
    "clickhouse": "rambla_py.handlers.clickhouse",
}


def test_ten_processes_write_at_once(store: Store) -> None:
    """All of them create the tables, and every event of each is there once."""
    argv = [sys.executable, "-c", _PROGRAM, store.url, _IMPORTED[store.kind]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert (done.stdout, done.stderr) == (f"{[0] * 10}\n", "")
    assert (store.count("payment_events"), store.count("api_events")) == (400, 400)
    assert store.count("backend_error_events") == 400


def _config(store: Store, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "sql": {
            "connections": {"here": {"url": store.url}},
            "channels": {"analytics": {"connection": "here"}},
        },
        "rambla": {"analytics": settings},
    }


def _moment(value: Any) -> datetime.datetime:
    found = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
    return found.replace(tzinfo=datetime.UTC) if found.tzinfo is None else found
