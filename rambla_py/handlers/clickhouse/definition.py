"""CREATE TABLE statements of ClickHouse."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Final

from rambla_py.handlers._tables.columns import Column
from rambla_py.handlers._tables.options import TablePlan
from rambla_py.handlers.clickhouse.encode import quoted_name, table_name

__all__ = ["FAMILIES", "check_types", "create_statement", "milliseconds_of"]

FAMILIES: Final = ("DateTime64", "Decimal")
"""Types that old servers lack: DateTime64 came with 20.1, Decimal with 18.12."""

_TYPE = re.compile(r"\s*(?P<name>[A-Za-z][\w ]*?)\s*(?:\((?P<given>[\d\s,]*)\))?\s*")
_OWN = re.compile(r"[A-Z][A-Za-z0-9]*[a-z0-9](\([\w\s,.()'/=+-]*\))?")
_NAMES: Final = {
    "bigint": "Int64",
    "bool": "UInt8",
    "boolean": "UInt8",
    "date": "Date",
    "double": "Float64",
    "double precision": "Float64",
    "float": "Float64",
    "int": "Int32",
    "integer": "Int32",
    "real": "Float32",
    "smallint": "Int16",
    "uuid": "UUID",
}
_TEXTS: Final = frozenset(
    {"binary", "blob", "bytea", "bytes", "char", "json", "jsonb", "string", "text", "varchar"}
)
_TIMES: Final = frozenset({"datetime", "timestamp", "timestamptz"})
_DECIMALS: Final = frozenset({"decimal", "numeric"})


def create_statement(plan: TablePlan, families: Set[str]) -> str:
    """Return the statement that creates a table, for a server that has these of ``FAMILIES``.

    Rows are ordered by the column ``timestamp``, or else by the first time. Without ``DateTime64`` a time is
    a ``DateTime`` and a column of milliseconds beside it.

    >>> columns = (Column("id", "id"), Column("at", "payload", ("at",), "timestamptz"))
    >>> create_statement(TablePlan("shop.calls", columns), {"DateTime64"})[27:]
    "`shop`.`calls` (`id` String, `at` DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY (`at`)"
    >>> create_statement(TablePlan("t", columns), set())[32:93]
    "`id` String, `at` DateTime('UTC'), `at_ms` UInt16) ENGINE = M"
    """
    times = [column.name for column in plan.columns if _kind(column, families).startswith("DateTime")]
    key = "timestamp" if "timestamp" in times else next(iter(times), None)
    taken = {column.name for column in plan.columns}
    parts = []
    for column in plan.columns:
        kind = _kind(column, families)
        plain = column.name == key or column.source in ("id", "rest") or _is_own(column.type)
        parts.append(f"{quoted_name(column.name)} {kind if plain else f'Nullable({kind})'}")
        beside = milliseconds_of(column.name)
        if kind == _SECONDS and not _is_own(column.type) and beside not in taken:
            parts.append(f"{quoted_name(beside)} UInt16")
    order = f"({quoted_name(key)})" if key else "tuple()"
    return (
        f"CREATE TABLE IF NOT EXISTS {table_name(plan.name)} ({', '.join(parts)}) "
        f"ENGINE = MergeTree ORDER BY {order}"
    )


def check_types(plan: TablePlan) -> None:
    """Raise ``ValueError`` for a type that is not known."""
    for column in plan.columns:
        _kind(column, frozenset(FAMILIES))


def milliseconds_of(name: str) -> str:
    """Return the name of the column that holds the milliseconds of a time."""
    return f"{name}_ms"


_SECONDS: Final = "DateTime('UTC')"


def _is_own(text: str) -> bool:
    return _OWN.fullmatch(text.strip()) is not None


def _kind(column: Column, families: Set[str]) -> str:
    """Return the type of ClickHouse for one of SQL; its own types, ``UInt32``, are as they are."""
    if _is_own(column.type):
        return column.type.strip()
    parts = _TYPE.fullmatch(column.type)
    name = parts["name"].lower() if parts else ""
    if name in _TIMES:
        return "DateTime64(3, 'UTC')" if "DateTime64" in families else _SECONDS
    if name in _DECIMALS:
        return _decimal((parts["given"] if parts else None) or "38, 9") if "Decimal" in families else "String"
    if name in _TEXTS:
        return "String"
    if name not in _NAMES:
        raise ValueError(f"the column {column.name!r} has the type {column.type!r}, which is not known")
    return _NAMES[name]


def _decimal(given: str) -> str:
    digits, _, scale = given.partition(",")
    return f"Decimal({int(digits)}, {int(scale or 0)})"
