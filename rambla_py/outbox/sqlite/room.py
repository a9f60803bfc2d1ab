"""The bounds of a SQLite journal: whether there is room for new rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable

from rambla_py.outbox.errors import OutboxFullError
from rambla_py.outbox.rows import Row

__all__ = ["Room"]

_LOOK_EVERY_S = 1.0
_UNSEEN_SHARE = 16
_ROW_BYTES = 256
"""What a row takes beside its payload and options, at least."""

_KEPT = """
SELECT coalesce(sum(CASE name WHEN 'accepted' THEN count ELSE -count END), 0) FROM rambla_account
WHERE name NOT IN ('replayed', 'duplicates')
"""


class Room:
    """``max_bytes`` and ``max_rows`` of one journal, asked for in its transactions.

    The size of the file is not asked for at each commit: not before a second has passed, or a sixteenth of
    the room that was left then is used up. So a file that many processes share may exceed ``max_bytes`` by a
    sixteenth for each, if all of them write at the same time.
    """

    def __init__(self, name: str, *, max_bytes: int | None, max_rows: int | None) -> None:
        self._name, self._max_bytes, self._max_rows = name, max_bytes, max_rows
        self._unseen_bytes = 0
        self._look_at = 0.0

    def check(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Raise ``OutboxFullError`` if a bound was reached before these rows."""
        if self._max_bytes is not None:
            now = time.monotonic()
            if self._unseen_bytes <= 0 or now >= self._look_at:
                left = self._max_bytes - _used_bytes(connection)
                if left <= 0:
                    self._unseen_bytes = 0
                    raise OutboxFullError(self._name, f"it holds max_bytes = {self._max_bytes}")
                self._unseen_bytes, self._look_at = left // _UNSEEN_SHARE, now + _LOOK_EVERY_S
            self._unseen_bytes -= sum(len(row.payload) + len(row.options or b"") + _ROW_BYTES for row in rows)
        if self._max_rows is not None:
            (kept,) = connection.execute(_KEPT).fetchone()
            if kept >= self._max_rows:
                raise OutboxFullError(self._name, f"it holds max_rows = {self._max_rows}")


def _used_bytes(connection: sqlite3.Connection) -> int:
    size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return (pages - free) * size
