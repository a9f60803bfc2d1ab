"""Waits for locks of other sessions, bounded on a worker's connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rambla_py.handlers.sql.parts import PartRow
from rambla_py.sql.bulk import DriverErrors, Row, Statements
from rambla_py.sql.dialect import SqlDialect

__all__ = ["LockWaits"]

_SHORT_FROM_S = 2.0
"""The ``read_timeout_s`` from which waits for locks are bounded: MySQL counts them in whole seconds."""


class LockWaits:
    """How long the statements of one connection wait for locks.

    A batch waits for half a second (MySQL and MariaDB: one second), and not for ``read_timeout_s``, so that
    a lock on one row does not hold up the others. ``tables`` are the statements of each table by its name.
    ``seen`` is True once a batch has waited too long, ``expected`` until the next one that did not.
    """

    def __init__(
        self, dialect: SqlDialect, raw: Any, tables: Mapping[str, Statements], *, read_timeout_s: float
    ) -> None:
        self.seen = self.expected = self._lifted = False
        self._dialect, self._raw = dialect, raw
        self._tables, self._first = tables, next(iter(tables))
        self._bounds = read_timeout_s >= _SHORT_FROM_S
        self.restore()

    @property
    def lifted(self) -> bool:
        """Whether ``lift`` was called since the last ``restore``."""
        return self._lifted

    def lift(self) -> None:
        """Wait as long as the session did at first: statements of the application come next."""
        self._lifted = self._bounds
        if self._bounds:
            self._dialect.bound_waits(self._raw, bounded=False)

    def restore(self) -> None:
        """Bound the waits of the session."""
        self._lifted = False
        if self._bounds:
            self._dialect.bound_waits(self._raw, bounded=True)

    def expect(self, waits: bool) -> None:
        """Record whether the last batch has waited too long: then the next one waits briefly only."""
        self.expected = waits
        self.seen = self.seen or waits

    def short(self) -> AbstractContextManager[None]:
        """Wait as briefly as the database can; entered in a transaction, and left after its end."""
        return self._dialect.short_waits(self._raw)

    def touch(self, rows: Sequence[Row]) -> None:
        """Write nothing to the tables of rows: this waits only for a lock of a whole table.

        Raises ``SqlError``.
        """
        cursor = self._raw.cursor()
        for table in dict.fromkeys(self._table(row) for row in rows):
            texts = self._tables[table]
            nulls = ", ".join(["NULL"] * texts.width)
            with DriverErrors(self._dialect.map_error):
                # With arguments, none though they are, the driver unescapes percent signs in names.
                cursor.execute(f"{texts.head} SELECT {nulls} FROM (SELECT 1) AS nothing WHERE 1 = 0", ())

    def scope(self, row: Row) -> str:
        """Return the scope of the error of a row whose lock another session holds."""
        return f"a locked row of {self._table(row)}"

    def _table(self, row: Row) -> str:
        return row.part.table if isinstance(row, PartRow) else self._first
