"""Flushes of an app that delivers what others have stored: they wait for rows that it has not read yet."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from outboxes import NAME, Backend, running, table_of
from waiting import wait_until

from rambla_py import Rambla, outbox

SELDOM: dict[str, Any] = {"poll_s": 1_000.0}
"""The app looks for rows of others when it starts, and when a flush makes it."""


def publish(app: Rambla, folder: Path, payloads: list[Any]) -> None:
    """Store messages in a transaction of the application."""
    with closing(sqlite3.connect(folder / "outbox.db")) as connection, connection:
        connection.execute("BEGIN")
        outbox.publish_many(connection, "orders", payloads, app=app)


def test_a_flush_waits_for_what_a_transaction_has_stored(tmp_path: Path) -> None:
    """Each flush begins after the commit, and ends after the deliveries."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), SELDOM)) as app:
        for number in range(3):
            publish(app, tmp_path, [number])
            assert app.flush(30)
            assert backend.received == list(range(number + 1))


def test_aflush_waits_too(tmp_path: Path) -> None:
    """On a loop, which it does not block."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), SELDOM)) as app:
        publish(app, tmp_path, [1])
        assert asyncio.run(app.aflush(30))
        assert backend.received == [1]


def test_a_flush_waits_for_more_than_the_mailbox_holds(tmp_path: Path) -> None:
    """What is read as room appears was stored before it began."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), SELDOM, max_pending=3)) as app:
        publish(app, tmp_path, list(range(20)))
        assert app.flush(30)
        assert len(backend.received) == 20


def test_a_flush_ends_with_its_time(tmp_path: Path) -> None:
    """The messages were read, and are not delivered."""
    backend = Backend()
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler(), SELDOM)) as app:
        publish(app, tmp_path, [1])
        assert not app.flush(1.0)
        backend.gate.set()
        assert app.flush(30)
        assert backend.received == [1]


def test_a_flush_of_an_app_that_stops_ends(tmp_path: Path) -> None:
    """What stays in the outbox is waited for by no one."""
    backend = Backend()
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler(), SELDOM)) as app:
        publish(app, tmp_path, [1, 2])
        flushed: list[bool] = []
        thread = threading.Thread(target=lambda: flushed.append(app.flush(60)))
        thread.start()
        wait_until(lambda: app.audit()[NAME].accepted == 2)
        threading.Timer(0.2, backend.gate.set).start()
        app.stop(0.0)
        thread.join(30)
    assert flushed == [True]
