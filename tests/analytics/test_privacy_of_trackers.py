"""No secret leaves a tracker, wherever it is put."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from secret_events import SecretCalls, shows_secret

from rambla_py.analytics import TABLES, AnalyticsError, Tracker
from rambla_py.analytics.report import render_page, report_of


def files_with_secrets(folder: Path) -> list[str]:
    """Return the names of the files that hold a secret, write-ahead logs too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if shows_secret(path.read_bytes().decode("latin-1"))]


def track(tracker: Tracker, number: int, seed: int) -> list[str]:
    """Track events with secrets in all places; return what was said about those that were refused."""
    said: list[str] = []
    for name, args, named, context in islice(SecretCalls(seed), number):
        with tracker.context(**context):
            try:
                getattr(tracker, name)(*args, **named)
            except AnalyticsError as refused:
                said.append(str(refused))
    return said


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return a function that returns what was logged, on any level."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text


@pytest.mark.parametrize("seed", range(2))
def test_no_secret_leaves_a_tracker(tmp_path: Path, logged: Callable[[], str], seed: int) -> None:
    """Not into the database and its write-ahead log, a report, a log, an error, ``repr`` or the account.

    Every event that is accepted is a row.
    """
    said: list[str] = []
    file = tmp_path / "events.db"
    tracker = Tracker(
        f"sqlite:///{file}",
        debug=True,
        on_error=lambda raised: said.append(repr(raised)),
        on_drop=lambda reason, number: said.append(reason),
    )
    said += track(tracker, 150, seed)
    assert tracker.flush(60)
    found = files_with_secrets(tmp_path)
    audit = tracker.audit()
    tracker.close()
    said += [repr(tracker), repr(audit), *logged().splitlines()]
    said += render_page(report_of(f"sqlite:///{file}")).splitlines()
    assert [text for text in said if shows_secret(text)] == []
    assert found == files_with_secrets(tmp_path) == []
    assert audit.delivered == audit.tracked - audit.refused > 0
    with closing(sqlite3.connect(file)) as connection:
        ids = {row[0] for table in TABLES for row in connection.execute(f"select id from {table}")}
    assert len(ids) == audit.delivered


def test_no_secret_is_in_an_outbox(tmp_path: Path, logged: Callable[[], str]) -> None:
    """What waits for a database that cannot be reached is scrubbed too."""
    config = {
        "rambla": {"outbox": {"url": f"sqlite:///{tmp_path / 'outbox.db'}"}},
        "sql": {
            "connections": {"gone": {"url": "postgresql://127.0.0.1:1/nowhere"}},
            "channels": {"analytics": {"connection": "gone", "durable": True, "overflow": "raise"}},
        },
    }
    tracker = Tracker(config)
    track(tracker, 50, seed=2)
    found = files_with_secrets(tmp_path)
    tracker.close(0.1)
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        rows = sum(connection.execute(f"select count(*) from {table}").fetchone()[0] for table in tables)
    assert rows > 0
    assert found == files_with_secrets(tmp_path) == []
    assert not shows_secret(logged())
