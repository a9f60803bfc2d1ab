"""This module is what a statement gives back."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["QueryResult"]


class QueryResult(msgspec.Struct, frozen=True):
    """The result of one statement.

    ``data`` holds the rows as dicts, by column; ``affected_rows`` how many were written (0 for a query);
    ``last_insert_id`` the key that the database made for the last row of an INSERT: the first column of
    ``returning`` where that was asked for, the driver's word on SQLite and MySQL, None otherwise;
    ``duration_s`` the time from the call to the result, retries included.

    >>> QueryResult(data=[{"id": 1}]).first
    {'id': 1}
    """

    data: list[dict[str, Any]] = []
    affected_rows: int = 0
    last_insert_id: Any = None
    duration_s: float = 0.0

    @property
    def first(self) -> dict[str, Any] | None:
        """The first row, or None."""
        return self.data[0] if self.data else None
