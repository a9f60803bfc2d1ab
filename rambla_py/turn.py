"""This module waits for a writer's turn at a SQLite file, which has one writer at a time."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["begin_writing"]

_POLL_S = 0.001


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begin a transaction that may write; wait for others as long as the connection's busy timeout says.

    Raises ``sqlite3.OperationalError``. SQLite itself looks ten times a second once it has waited a little:
    beside a process that writes one transaction after the other, which leaves the file free for some
    microseconds at a time, that took many seconds where this takes some hundredths.
    """
    (timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        _begin_before(time.monotonic() + timeout_ms / 1_000, connection)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")


def _begin_before(deadline: float, connection: sqlite3.Connection) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return
