"""Result of a statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.statement import unknown_column

__all__ = ["QueryResult", "check_columns"]


class QueryResult(msgspec.Struct, frozen=True):
    """The result of one statement.

    ``data`` has the rows as dicts, by column name; ``affected_rows`` is the number of rows written (0 for a
    query); ``last_insert_id`` is the generated key of the last row of an INSERT: the first column of
    ``returning`` if there is one, else what the driver reports on SQLite and MySQL, else None;
    ``duration_s`` is the time from the call to the result, retries included.

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


def check_columns(names: Iterable[str], typed: Collection[str]) -> list[str]:
    """Return a result's column names; raises ``SqlStatementError`` if a dict could not hold them all.

    ``typed`` are the columns whose types were given; the result must have each of them.
    """
    found = list(names)
    if len(set(found)) < len(found):
        twice = next(name for at, name in enumerate(found) if name in found[:at])
        raise SqlStatementError(f"the result has two columns named {twice!r}; name one of them with AS")
    for name in typed:
        if name not in found:
            raise unknown_column(name, found)
    return found
