"""The bounds of a SQLite journal: whether there is room for new rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from rambla_py.outbox.journal import Acceptance
from rambla_py.outbox.room import CommitRoom

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

    def for_commit(self, connection: sqlite3.Connection, acceptances: Sequence[Acceptance]) -> CommitRoom:
        """Return the room for the calls of one commit."""
        kept, size = 0, 0
        if self._max_bytes is not None and self._has_no_bytes(connection, self._max_bytes, acceptances):
            size = self._max_bytes
        if self._max_rows is not None:
            (kept,) = connection.execute(_KEPT).fetchone()
        return CommitRoom(
            self._name, rows=kept, max_rows=self._max_rows, size=size, max_bytes=self._max_bytes
        )

    def _has_no_bytes(
        self, connection: sqlite3.Connection, max_bytes: int, acceptances: Sequence[Acceptance]
    ) -> bool:
        now = time.monotonic()
        if self._unseen_bytes <= 0 or now >= self._look_at:
            left = max_bytes - _used_bytes(connection)
            if left <= 0:
                self._unseen_bytes = 0
                return True
            self._unseen_bytes, self._look_at = left // _UNSEEN_SHARE, now + _LOOK_EVERY_S
        for one in acceptances:
            sizes = [len(row.payload) + len(row.options or b"") for row in one.rows]
            self._unseen_bytes -= sum(sizes) + len(sizes) * _ROW_BYTES
        return False


def _used_bytes(connection: sqlite3.Connection) -> int:
    size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return (pages - free) * size
