"""The room that a journal has left for the new rows of a commit."""

from __future__ import annotations

from collections.abc import Sequence

from rambla_py.outbox.errors import OutboxFullError
from rambla_py.outbox.journal import Acceptance

__all__ = ["CommitRoom"]

_ROW_BYTES = 200
"""What a row takes beside its payload, about."""


class CommitRoom:
    """Decides which calls of one commit still fit; each call is refused by itself.

    ``rows`` and ``size`` are what the journal holds. A call must fit into ``max_rows`` as a whole; the one
    that passes ``max_bytes`` is the last one that is accepted.
    """

    def __init__(
        self,
        name: str,
        *,
        rows: int = 0,
        max_rows: int | None = None,
        size: int = 0,
        max_bytes: int | None = None,
    ) -> None:
        self._name, self._rows, self._max_rows = name, rows, max_rows
        self._size, self._max_bytes = size, max_bytes
        self.was_full = False
        """Whether a call did not fit."""

    def refuse_others(self, acceptances: Sequence[Acceptance]) -> list[Acceptance]:
        """Return those that fit, in order; the others get an ``OutboxFullError``."""
        fitting = []
        for one in acceptances:
            reason = self._reason(len(one.rows))
            if reason is None:
                self._rows += len(one.rows)
                self._size += sum(len(row.payload) + _ROW_BYTES for row in one.rows)
                fitting.append(one)
            else:
                self.was_full = True
                one.error = OutboxFullError(self._name, reason)
        return fitting

    def _reason(self, rows: int) -> str | None:
        if self._max_bytes is not None and self._size >= self._max_bytes:
            return f"it holds max_bytes = {self._max_bytes}"
        if self._max_rows is not None and self._rows + rows > self._max_rows:
            if rows > self._max_rows:
                return f"a call of {rows} messages does not fit into max_rows = {self._max_rows}"
            return f"it holds {self._rows} of max_rows = {self._max_rows}"
        return None
