"""The room that a journal has left for the new rows of a commit."""

from __future__ import annotations

from collections.abc import Sequence

from rambla_py.outbox.errors import OutboxFullError
from rambla_py.outbox.journal import Acceptance
from rambla_py.outbox.rows import Row

__all__ = ["CommitRoom", "needs_no_room"]

_ROW_BYTES = 200
"""What a row takes beside its payload, about."""


class CommitRoom:
    """Decides which calls of one commit still fit; each call is refused by itself.

    ``rows`` and ``size`` are what the journal holds. A call must fit into ``max_rows`` as a whole; the one
    that passes ``max_bytes`` is the last one that is accepted. ``full`` is why none fits at all.
    """

    def __init__(
        self,
        name: str,
        *,
        rows: int = 0,
        max_rows: int | None = None,
        size: int = 0,
        max_bytes: int | None = None,
        full: str | None = None,
    ) -> None:
        self._name, self._rows, self._max_rows = name, rows, max_rows
        self._size, self._max_bytes, self._full = size, max_bytes, full
        self.was_full = False
        """Whether a call did not fit."""

    def take(self, rows: Sequence[Row], replaced: int = 0) -> None:
        """Take the room of the new rows of a call, which end as many as ``replaced``.

        Raises ``OutboxFullError``; not for rows that only replace others, or none at all.
        """
        more = len(rows) - replaced
        reason = self._reason(more) if more > 0 else None
        if reason is not None:
            self.was_full = True
            raise OutboxFullError(self._name, reason)
        self._rows += more
        if more > 0 and self._max_bytes is not None:
            self._size += sum([len(row.payload) for row in rows]) + len(rows) * _ROW_BYTES

    def _reason(self, rows: int) -> str | None:
        if self._full is not None:
            return self._full
        if self._max_bytes is not None and self._size >= self._max_bytes:
            return f"it holds max_bytes = {self._max_bytes}"
        if self._max_rows is not None and self._rows + rows > self._max_rows:
            if rows > self._max_rows:
                return f"a call of {rows} messages does not fit into max_rows = {self._max_rows}"
            return f"it holds {self._rows} of max_rows = {self._max_rows}"
        return None


def needs_no_room(acceptance: Acceptance) -> bool:
    """Return whether the rows of a call replace as many others, or may all be stored already."""
    if len(acceptance.rows) <= len(acceptance.replaces):
        return True
    return all(row.given_id for row in acceptance.rows)
