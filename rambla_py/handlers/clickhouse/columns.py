"""Bounds of integer columns, which ClickHouse does not check: an integer beyond them wraps round."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from rambla_py.errors import DeliveryError, PermanentError
from rambla_py.serialization.json_numbers import read_json

__all__ = ["Bounds", "Columns", "IntegerCheck", "bounds_of", "column_kinds", "columns_query"]

_KEPT_S: Final = 60.0
_MOST_TABLES: Final = 256
_PAGE: Final = 100
_INTEGER = re.compile(r"(U?)Int(8|16|32|64|128|256)")
_WRAPPER = re.compile(r"(Nullable|LowCardinality|Array|SimpleAggregateFunction)\((.*)\)", re.DOTALL)
_WRITTEN = re.compile(r"[+-]?[0-9]+")
_VERY_LONG = re.compile(rb"[0-9]{1000}")
_LONGEST: Final = 4_000
_INT64 = (-(2**63), 2**63 - 1)


class Bounds(NamedTuple):
    """The integers that a column takes; ``depth`` counts the arrays around them.

    ``text``: whether integers in strings are read as such, which they are not where a string is a date.
    """

    kind: str
    least: int
    most: int
    depth: int = 0
    text: bool = True

    def admits(self, value: Any) -> bool:
        """Return whether a value of JSON fits; what is no integer is left to the server."""
        if isinstance(value, list):
            return all(self.admits(item) for item in value)
        if isinstance(value, str) and self.text and _WRITTEN.fullmatch(value):
            value = int(value[:_LONGEST])
        if isinstance(value, bool) or not isinstance(value, int):
            return True
        return self.least <= value <= self.most


def bounds_of(kind: str) -> Bounds | None:
    """Return the bounds of a column's type; None for one without integers.

    >>> bounds_of("Array(Nullable(UInt8))")
    Bounds(kind='UInt8', least=0, most=255, depth=1, text=True)
    """
    depth = 0
    while wrapper := _WRAPPER.fullmatch(kind):
        depth += wrapper[1] == "Array"
        kind = wrapper[2].rpartition(", ")[2] if wrapper[1].startswith("Simple") else wrapper[2]
    if kind == "DateTime" or kind.startswith("DateTime("):
        return Bounds("DateTime", 0, 2**32 - 1, depth, text=False)
    found = _INTEGER.fullmatch(kind)
    if found is None:
        return None
    bits = int(found[2])
    least, most = (0, 2**bits - 1) if found[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Bounds(kind, least, most, depth)


class IntegerCheck:
    """Finds integers that the columns of a table cannot hold."""

    def __init__(self, columns: Mapping[str, Bounds]) -> None:
        self._columns = dict(columns)
        names = {f"c{at}": name for at, name in enumerate(self._columns)}
        fields: Any = [
            (field, _quick_type(self._columns[name]) | msgspec.UnsetType, msgspec.UNSET)
            for field, name in names.items()
        ]
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=names)).decode

    def __call__(self, rows: Sequence[bytes]) -> PermanentError | None:
        """Return the error of the first row with an integer that does not fit; None if all do."""
        decode = self._decode
        for at, row in enumerate(rows):
            try:
                decode(row)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                found = self._misfit(row)
                if found is not None:
                    name, bounds = found
                    return PermanentError(
                        f"row {at + 1}: column {name!r} is {bounds.kind}, an integer from {bounds.least} to "
                        f"{bounds.most}, and the value is beyond that; ClickHouse would store another number"
                    )
        return None

    def _misfit(self, row: bytes) -> tuple[str, Bounds] | None:
        """Look at a row in detail: the quick look admits less than the column does."""
        try:
            values = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None  # the server refuses it
        for name, bounds in self._columns.items():
            if name in values and not _admits(bounds, bytes(values[name])):
                return name, bounds
        return None


def _admits(bounds: Bounds, written: bytes) -> bool:
    try:
        return bounds.admits(read_json(written))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _VERY_LONG.search(written) is None  # Python reads no integer of thousands of digits


Check = Callable[[Sequence[bytes]], PermanentError | None]


class Columns:
    """The integer checks of the tables that one connection writes to, asked for once a minute."""

    def __init__(self, ask: Callable[[str, int], str]) -> None:
        self._ask = ask
        self._kept: dict[str, tuple[float, IntegerCheck | None]] = {}

    def check_for(self, table: str, *, since: float) -> Check:
        """Return what returns the error of rows with an integer that does not fit, for one batch.

        The table is asked again before anything is refused, unless it was after ``since`` (monotonic): it may
        have been altered.
        """
        asked, kept = self._check(table, time.monotonic() - _KEPT_S)
        if kept is None:
            return _admit_all
        check = kept

        def misfit(rows: Sequence[bytes]) -> PermanentError | None:
            error = check(rows)
            if error is not None and asked < since:
                _, renewed = self._check(table, since)
                error = None if renewed is None else renewed(rows)
            return error

        return misfit

    def _check(self, table: str, since: float) -> tuple[float, IntegerCheck | None]:
        kept = self._kept.get(table)
        if kept is None or kept[0] < since:
            now = time.monotonic()
            columns = self._integers(table)
            if columns is None:
                return now, None
            if len(self._kept) >= _MOST_TABLES:
                self._kept.clear()
            kept = self._kept[table] = now, IntegerCheck(columns) if columns else None
        return kept

    def _integers(self, table: str) -> dict[str, Bounds] | None:
        """Return the bounds by column, of those that the user may see; None if there is no answer."""
        try:
            kinds = column_kinds(lambda offset: self._ask(table, offset))
        except (DeliveryError, msgspec.DecodeError):
            return None  # the insert meets the same error, and reports it
        found = {name: bounds_of(kind) for name, kind in kinds.items()}
        return {name: bounds for name, bounds in found.items() if bounds is not None}


def _admit_all(_rows: Sequence[bytes]) -> None:
    """Find nothing: the table has no integers, or there is no answer."""


def column_kinds(ask: Callable[[int], str]) -> dict[str, str]:
    """Return the types of columns by name; ``ask`` returns the answer to ``columns_query`` from an offset."""
    found: dict[str, str] = {}
    for page in range(0, 100_000, _PAGE):
        columns = [msgspec.json.decode(line, type=dict[str, str]) for line in ask(page).splitlines()]
        found.update({column["name"]: column["type"] for column in columns})
        if len(columns) < _PAGE:
            break
    return found


def columns_query(table: str, offset: int, *, integers: bool = True) -> str:
    """Return the query for the columns of ``TABLE`` or ``DATABASE.TABLE``, a page of them.

    With ``integers``, only those that have bounds.

    >>> columns_query("shop.orders", 0)[:75]
    "SELECT name, type FROM system.columns WHERE database = 'shop' AND table = '"
    """
    database, _, name = table.rpartition(".")
    where = _quoted(database) if database else "currentDatabase()"
    only = "AND (type LIKE '%Int%' OR type LIKE '%DateTime%') " if integers else ""
    return (
        f"SELECT name, type FROM system.columns WHERE database = {where} AND table = {_quoted(name)} "
        f"{only}ORDER BY name LIMIT {offset}, {_PAGE} FORMAT JSONEachRow"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quick_type(bounds: Bounds) -> Any:
    """Return a type that admits what fits for sure; anything else is looked at in detail."""
    least, most = max(bounds.least, _INT64[0]), min(bounds.most, _INT64[1])
    digits = len(str(most)) - 1
    text = Annotated[str, Meta(pattern=rf"^[0-9]{{1,{digits}}}$")] if bounds.text else str
    kind: Any = Annotated[int, Meta(ge=least, le=most)] | text | float | bool | None
    for _ in range(bounds.depth):
        kind = list[kind] | str | int | float | bool | None
    return kind
