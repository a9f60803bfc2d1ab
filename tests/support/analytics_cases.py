"""Trackers on channels in memory and on SQLite files, and what they have delivered."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rambla_py.analytics import TABLES, Tracker
from rambla_py.handlers import memory


def unreachable(**channel: Any) -> dict[str, Any]:
    """Return the configuration of a channel whose database cannot be connected to; ``tables`` are set."""
    return {
        "sql": {
            "connections": {"gone": {"url": "postgresql://127.0.0.1:1/nowhere"}},
            "channels": {
                "analytics": {
                    "connection": "gone",
                    "options": {"tables": "rambla_py.analytics:TABLES"},
                    **channel,
                }
            },
        }
    }


class Recorded:
    """A tracker on a channel in memory; ``events`` are those that were delivered, after a flush."""

    def __init__(self, settings: dict[str, Any] | None = None, **arguments: Any) -> None:
        self.name = uuid.uuid4().hex
        self.config: dict[str, Any] = {
            "memory": {
                "connections": {"here": {"name": self.name}},
                "channels": {"analytics": {"connection": "here"}, "orders": {"connection": "here"}},
            },
            "rambla": {"analytics": settings or {}},
        }
        self.tracker = Tracker(self.config, **arguments)

    @property
    def records(self) -> list[memory.Record]:
        """What was delivered."""
        assert self.tracker.flush(20)
        return memory.store(self.name).messages()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The delivered events."""
        return [record.payload for record in self.records]

    @property
    def event(self) -> dict[str, Any]:
        """The only delivered event."""
        (event,) = self.events
        return event


@contextmanager
def recorded(settings: dict[str, Any] | None = None, **arguments: Any) -> Iterator[Recorded]:
    """Yield a tracker on a channel in memory."""
    case = Recorded(settings, **arguments)
    try:
        yield case
    finally:
        case.tracker.close()
        memory.forget(case.name)


def rows(file: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table of a SQLite file."""
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"select * from {table} order by timestamp, id")]


def counts(file: Path) -> dict[str, int]:
    """Return the number of rows of each table of events in a SQLite file."""
    return {table: len(rows(file, table)) for table in TABLES}


def track_each(tracker: Tracker) -> None:
    """Track one event of each kind."""
    tracker.track_api_request("GET", "/items/{id}", 200, 1.5, user_agent="curl/8", ip_address="192.0.2.7")
    tracker.track_api_error(KeyError("total"), method="POST", path="/pay")
    tracker.track_db_query("SELECT 1", 0.5, True)
    tracker.track_db_connection("connect", 2.5, False)
    tracker.track_user_auth("login", "u-1", True)
    tracker.track_payment("charge", 99.99, "USD", True, order_id="o-17")
    tracker.track_email_send("ada@example.com", "welcome", True)
    tracker.track_file_operation("upload", "image/png", 2_048, True)
    tracker.track_external_api_call("bank", "https://bank.example/pay", 12.5, True, api_status_code=201)
    tracker.track_system_performance(cpu_percent=5.0)
    tracker.track("Signup", plan="pro")
