"""Rows of the columns that a channel lists."""

from __future__ import annotations

import datetime
import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from rambla_py.errors import DeliveryError
from rambla_py.handlers._tables.columns import Column
from rambla_py.handlers._tables.options import TablePlan
from rambla_py.handlers.clickhouse.definition import milliseconds_of
from rambla_py.handlers.clickhouse.encode import rows_of
from rambla_py.serialization.encoding import to_json

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handlers.clickhouse.settings import ClickHouseOptions

__all__ = ["ColumnRows", "TableRows"]

_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)", re.DOTALL)
_NUMBER = re.compile(rb'"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"')
_KEPT_S: Final = 60.0
_NULL: Final = b"null"
_Fields = Mapping[str, msgspec.Raw]


class TableRows:
    """Makes the rows of the tables of a connection; ``ask`` returns the types of a table's columns by name.

    A table is asked for once a minute: it may be created or altered while the connection is open.
    """

    def __init__(
        self, plans: Mapping[str, TablePlan | None], ask: Callable[[str], Mapping[str, str]]
    ) -> None:
        self._plans, self._ask = plans, ask
        self._kept: dict[str, tuple[float, ColumnRows]] = {}

    def maker(self, table: str, options: ClickHouseOptions) -> Callable[[Delivery], list[bytes]]:
        """Return what returns the rows of a message for a table, and raises what ``rows_of`` raises."""
        plan = self._plans.get(table)
        if plan is None:
            return functools.partial(rows_of, id_column=options.id_column)
        now = time.monotonic()
        asked, made = self._kept.get(table) or (-_KEPT_S, None)
        if made is None or asked < now - _KEPT_S:
            made = self._made(plan, now)
        return made.rows

    def _made(self, plan: TablePlan, now: float) -> ColumnRows:
        try:
            kinds = self._ask(plan.name)
        except (DeliveryError, msgspec.DecodeError):
            kinds = {}  # the insert meets the same error, and reports it
        made = ColumnRows(plan, kinds)
        if kinds:
            self._kept[plan.name] = now, made
        return made


class ColumnRows:
    """Makes the rows of a table with the columns of a plan; ``kinds`` has the types that the table has."""

    def __init__(self, plan: TablePlan, kinds: Mapping[str, str]) -> None:
        taken = {column.name for column in plan.columns}
        self._columns = [
            (column, to_json(column.name) + b":", _converter(column, kinds, taken)) for column in plan.columns
        ]
        self._in_columns = frozenset(
            column.path[0] for column in plan.columns if column.source == "payload" and len(column.path) == 1
        )

    def rows(self, delivery: Delivery) -> list[bytes]:
        """Return the rows of a message; raises what ``rows_of`` raises."""
        return [self._row(row, delivery) for row in rows_of(delivery, "")]

    def _row(self, row: bytes, delivery: Delivery) -> bytes:
        fields: _Fields = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
        parts: list[bytes] = []
        for column, name, convert in self._columns:
            value = self._value(column, row, fields, delivery)
            if value is not None:
                parts.append(name + convert(value))
        return b"{" + b",".join(parts) + b"}"

    def _value(self, column: Column, row: bytes, fields: _Fields, delivery: Delivery) -> bytes | None:
        """Return the JSON of a value; None if there is none: the column then gets its default."""
        if column.source == "id":
            return to_json(delivery.id)
        if column.source == "key":
            return None if delivery.key is None else to_json(delivery.key)
        if column.source == "headers":
            found = delivery.headers if not column.path else _walked(delivery.headers, column.path)
            return None if found is None else to_json(found)
        if column.source == "rest":
            return to_json({name: value for name, value in fields.items() if name not in self._in_columns})
        return row if not column.path else _at(fields, column.path)


def _walked(headers: Mapping[str, object], path: Sequence[str]) -> object:
    found: object = headers
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _at(fields: _Fields, path: Sequence[str]) -> bytes | None:
    found = fields.get(path[0])
    for step in path[1:]:
        if found is None:
            return None
        written = bytes(found).lstrip()
        if written.startswith(b"{"):
            found = msgspec.json.decode(written, type=dict[str, msgspec.Raw]).get(step)
        elif written.startswith(b"[") and step.isdecimal():
            items = msgspec.json.decode(written, type=list[msgspec.Raw])
            found = items[int(step)] if int(step) < len(items) else None
        else:
            return None
    return None if found is None else bytes(found).strip()


def _converter(column: Column, kinds: Mapping[str, str], taken: set[str]) -> Callable[[bytes], bytes]:
    """Return what makes the JSON of a value one that the type of a column takes."""
    kind = kinds.get(column.name, "String" if column.source == "rest" else "")
    while wrapped := _WRAPPED.fullmatch(kind):
        kind = wrapped[1]
    beside = milliseconds_of(column.name)
    if re.fullmatch(r"DateTime(\(.*\))?", kind) and beside in kinds and beside not in taken:
        return lambda written: _split(written, to_json(beside))
    if kind == "String" or kind.startswith("FixedString"):
        return _text
    return _number if kind.startswith("Decimal") else bytes


def _text(written: bytes) -> bytes:
    return written if written.startswith(b'"') or written == _NULL else to_json(written.decode())


def _number(written: bytes) -> bytes:
    # Old servers take a decimal without quotes only.
    return written[1:-1] if _NUMBER.fullmatch(written) else written


def _split(written: bytes, beside: bytes) -> bytes:
    """Return a time in seconds, with the milliseconds as the next field; what is no time as it is."""
    try:
        at = datetime.datetime.fromisoformat(msgspec.json.decode(written, type=str))
        at = at.replace(tzinfo=datetime.UTC) if at.tzinfo is None else at
        past = at - _EPOCH
    except (ValueError, OverflowError, msgspec.DecodeError):
        return written
    seconds, rest = divmod(past, datetime.timedelta(seconds=1))
    return b"%d,%b:%d" % (seconds, beside, rest // datetime.timedelta(milliseconds=1))


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
