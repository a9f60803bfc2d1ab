"""This module writes the SQL of a channel, once for each connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rambla_py.sql.database import Kind

__all__ = ["Statements", "quoted", "statements"]


class Statements(NamedTuple):
    """What writes rows of ``width`` columns to ``table``: INSERT in its parts, and PostgreSQL's COPY.

    ``probe`` asks whether an upsert can go by the key, and writes nothing: an error, or on MySQL no row, says
    that it cannot.

    >>> made = Statements("t", 2, head="INSERT INTO t (a, b)", row="(?, ?)")
    >>> made.insert
    'INSERT INTO t (a, b) VALUES (?, ?)'
    """

    table: str
    width: int
    head: str
    row: str
    suffix: str = ""
    copy: str = ""
    probe: str = ""

    @property
    def insert(self) -> str:
        """The statement that takes one row."""
        return self.insert_many(1)

    def insert_many(self, rows: int) -> str:
        """Return the statement that takes so many rows, value by value."""
        return f"{self.head} VALUES {', '.join([self.row] * rows)}{self.suffix}"

    def insert_arrays(self, types: Sequence[str]) -> str:
        """Return PostgreSQL's statement that takes column by column, as arrays of texts, with their types."""
        names = [f"c{at}" for at in range(self.width)]
        values = [f"CAST({name} AS {kind})" for name, kind in zip(names, types, strict=True)]
        given = f"unnest({', '.join(['%s'] * self.width)}) AS given({', '.join(names)})"
        return f"{self.head} SELECT {_formatted(', '.join(values))} FROM {given}{self.suffix}"


def quoted(name: str, kind: Kind) -> str:
    """Return a name as SQL quotes it.

    >>> quoted('a"b', "postgresql"), quoted("order", "mysql")
    ('"a""b"', '`order`')
    """
    mark = "`" if kind == "mysql" else '"'
    return mark + name.replace(mark, mark * 2) + mark


def statements(table: str, names: Sequence[str], kind: Kind, *, upsert_on: str | None = None) -> Statements:
    """Return the statements that write rows of these columns; with ``upsert_on`` they replace by that one.

    >>> statements("orders", ["id", "total"], "sqlite").insert
    'INSERT INTO "orders" ("id", "total") VALUES (?, ?)'
    """
    into = ".".join(quoted(part, kind) for part in table.split("."))
    columns = ", ".join(quoted(name, kind) for name in names)
    suffix = "" if upsert_on is None else _on_conflict(names, kind, upsert_on)
    head = f"INSERT INTO {into} ({columns})"
    copy = f"COPY {into} ({columns}) FROM STDIN"
    probe = "" if upsert_on is None else _probe(table, into, names, kind, upsert_on)
    if kind == "sqlite":
        return Statements(into, len(names), head, f"({', '.join('?' * len(names))})", suffix, probe=probe)
    row = f"({', '.join(['%s'] * len(names))})"
    return Statements(into, len(names), _formatted(head), row, _formatted(suffix), copy, probe)


def _formatted(text: str) -> str:
    """Return SQL for the drivers that format, and take a percent sign in a name for a place."""
    return text.replace("%", "%%")


def _probe(table: str, into: str, names: Sequence[str], kind: Kind, key: str) -> str:
    if kind == "mysql":
        schema, _, name = table.rpartition(".")
        place = (
            f"table_schema = {_literal(schema) if schema else 'DATABASE()'} AND table_name = {_literal(name)}"
        )
        return (
            f"SELECT 1 FROM information_schema.statistics WHERE {place} AND non_unique = 0 "
            f"AND column_name = {_literal(key)} "
            f"UNION ALL SELECT 1 FROM information_schema.views WHERE {place}"
        )
    columns = ", ".join(quoted(name, kind) for name in names)
    values = f"({columns}) VALUES ({', '.join('NULL' for _ in names)})"
    given = "DEFAULT VALUES" if kind == "postgresql" else values
    return f"EXPLAIN INSERT INTO {into} {given} ON CONFLICT ({quoted(key, kind)}) DO NOTHING"


def _literal(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "''") + "'"


def _on_conflict(names: Sequence[str], kind: Kind, key: str) -> str:
    others = [quoted(name, kind) for name in names if name != key]
    if kind == "mysql":
        pairs = [f"{name} = VALUES({name})" for name in others] or [
            f"{quoted(key, kind)} = {quoted(key, kind)}"
        ]
        return f" ON DUPLICATE KEY UPDATE {', '.join(pairs)}"
    if not others:
        return f" ON CONFLICT ({quoted(key, kind)}) DO NOTHING"
    pairs = [f"{name} = excluded.{name}" for name in others]
    return f" ON CONFLICT ({quoted(key, kind)}) DO UPDATE SET {', '.join(pairs)}"
