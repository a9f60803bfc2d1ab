"""Rows of analytics events, written by the sql handler into the tables of the tracker."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from typing import Any

from rambla_py import Rambla
from rambla_py.analytics import TABLES
from rambla_py.analytics.report.opening import is_clickhouse

NOW = datetime.datetime(2026, 3, 4, 12, 0, tzinfo=datetime.UTC)

_COMMON = {
    "event": "",
    "event_category": "backend",
    "user_id": None,
    "sample_rate": 1.0,
    "context": {},
    "properties": {},
}
_ACTIONS = {"api_events": "api_request"}


def row(table: str, *, ago_s: float = 60.0, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return a table and a row for it, so many seconds before ``NOW``; columns that are not given are null."""
    columns = dict.fromkeys(TABLES[table]["columns"])
    at = (NOW - datetime.timedelta(seconds=ago_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    given = {"timestamp": at, "event_action": _ACTIONS.get(table, table), **_COMMON, **fields}
    return table, {**columns, **given}


def request(
    method: str, path: str, status: int, duration_ms: float | None, **fields: Any
) -> tuple[str, dict[str, Any]]:
    """Return the row of a request."""
    return row("api_events", method=method, path=path, status_code=status, duration_ms=duration_ms, **fields)


def write(url: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Create the tables, and write rows as a tracker's channel does."""
    options = {"tables": TABLES, "table": "api_events", "create_table": True}
    service = "clickhouse" if is_clickhouse(url) else "sql"
    config = {
        service: {
            "connections": {"default": {"url": url.replace("clickhouse:", "http:")}},
            "channels": {"events": {"connection": "default", "batch_size": 500, "options": options}},
        }
    }
    with Rambla(config) as app:
        for table, fields in rows:
            app.publish("events", fields, table=table, id=uuid.uuid4().hex)
        assert app.flush(timeout_s=30)
        audit = app.audit()[f"{service}.events"]
        assert audit.ok == audit.accepted, audit
