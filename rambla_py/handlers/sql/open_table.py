"""Tables of a channel, opened for writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.errors import nearest
from rambla_py.handlers._tables.columns import Column
from rambla_py.handlers._tables.options import TablePlan
from rambla_py.handlers.sql.encode import RowMaker, payload_mapping
from rambla_py.handlers.sql.parts import Part
from rambla_py.handlers.sql.table import Table
from rambla_py.sql.bulk import DriverErrors, Statements
from rambla_py.sql.dialect import SqlDialect
from rambla_py.sql.errors import SqlDataError, SqlStatementError
from rambla_py.sql.insert import insert_statements

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["OpenTable"]

_MOST_PARTS = 256
"""Sets of keys whose statements are kept; payloads decide which there are."""


class OpenTable:
    """A table whose columns were checked, over a connection of the driver.

    ``statements`` are those of a row with all columns. ``fixed`` is the part that all rows belong to, or None
    where each payload names its columns.
    """

    def __init__(
        self,
        raw: Any,
        dialect: SqlDialect,
        plan: TablePlan,
        table: Table,
        *,
        copy: bool,
    ) -> None:
        self.name, self.plan, self.seen = plan.name, plan, table
        self._raw, self._dialect, self._copy = raw, dialect, copy
        self._unique = plan.unique
        columns = table.columns
        self._parts: dict[frozenset[Any], Part] = {}
        self._ids = [column for column in columns if column.source == "id"]
        taken = {column.name for column in self._ids}
        self._by_key = {key: Column(key, "payload", (key,)) for key in table.names if key not in taken}
        named = [one.name for one in columns] if not table.by_name else list(table.names)
        self.statements = self._statements(named)
        self.fixed = None if table.by_name else self._part(columns, is_fixed=True)

    def part_of(self, message: Delivery) -> Part:
        """Return the part of a message's row; raises ``SqlDataError`` for a key without a column."""
        if self.fixed is not None:
            return self.fixed
        keys = frozenset(payload_mapping(message))
        part = self._parts.get(keys)
        if part is None:
            part = self._part([*self._ids, *self._columns_of(keys)])
            if len(self._parts) >= _MOST_PARTS:
                self._parts.clear()
            self._parts[keys] = part
        return part

    def check_unique(self) -> None:
        """Raise ``SqlStatementError`` if the id is no unique key: an upsert fails, or on MySQL adds a row."""
        if self._unique is None:
            return
        if not self._is_unique(self.statements.probe):
            raise SqlStatementError(
                f"the table {self.name!r} has no unique key on {self._unique!r}, which upsert needs; "
                "create one, or set upsert = false"
            )

    def _is_unique(self, probe: str) -> bool:
        cursor = self._raw.cursor()
        try:
            cursor.execute(probe)
        except Exception as error:
            # Any other error, such as a missing permission, occurs again when a row is written.
            return not self._dialect.is_missing_key(self._dialect.map_error(error))
        return bool(cursor.fetchall())

    def _columns_of(self, keys: frozenset[Any]) -> list[Column]:
        for key in sorted(map(str, keys.difference(self._by_key))):
            close = nearest(key, self._by_key)
            hint = f"did you mean {close!r}?" if close else "add the column, set columns or set json_column"
            if key in {column.name for column in self._ids}:
                hint = 'it holds the message\'s id; publish with id=, or set id_column = ""'
            raise SqlDataError(f"the table {self.name!r} has no column for the key {key!r}; {hint}")
        if not keys and not self._ids:
            raise SqlDataError("expected a payload with keys that name columns, got one without keys")
        return [column for key, column in self._by_key.items() if key in keys]

    def _statements(self, names: Sequence[str]) -> Statements:
        try:
            return insert_statements(self._dialect, self.name, names, upsert=self._unique)
        except ValueError as error:
            raise SqlStatementError(str(error)) from error

    def _part(self, columns: Sequence[Column], *, is_fixed: bool = False) -> Part:
        table = self.seen
        maker = RowMaker(
            columns,
            self._dialect,
            binary=table.binary,
            json=table.json,
            naive=table.naive,
            forms=table.forms,
        )
        texts = self._statements(maker.names)
        with DriverErrors(self._dialect.map_error):
            writer = self._dialect.writer(self._raw, texts, maker.names, copy=self._copy, upsert=self._unique)
        return Part(self.name, maker, writer, is_fixed)
