"""This module writes the SQL of a channel, once for each connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rambla_py.sql.database import Kind

__all__ = ["Statements", "quoted", "statements"]

_STAGING = "rambla_staging"


class Statements(NamedTuple):
    """What a writer sends: ``insert`` takes rows; the others but the last are PostgreSQL's, for COPY.

    ``probe`` asks whether an upsert can go by the key, and writes nothing: an error, or on MySQL no row, says
    that it cannot.
    """

    insert: str
    copy: str = ""
    stage: str = ""
    copy_stage: str = ""
    merge: str = ""
    probe: str = ""


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
    marks = ", ".join("?" if kind == "sqlite" else "%s" for _ in names)
    head = f"INSERT INTO {into} ({columns})"
    if kind != "sqlite":
        # The other drivers format, and take a percent sign in a name for a place.
        insert = f"{head} VALUES (".replace("%", "%%") + marks + f"){suffix}".replace("%", "%%")
    else:
        insert = f"{head} VALUES ({marks}){suffix}"
    probe = "" if upsert_on is None else _probe(table, into, names, kind, upsert_on)
    if kind != "postgresql":
        return Statements(insert, probe=probe)
    return Statements(
        insert,
        copy=f"COPY {into} ({columns}) FROM STDIN",
        # As a query, so that no constraint, default or column beside ours comes along.
        stage=f"CREATE TEMPORARY TABLE {_STAGING} ON COMMIT DELETE ROWS AS "
        f"SELECT {columns} FROM {into} WITH NO DATA",
        copy_stage=f"COPY pg_temp.{_STAGING} ({columns}) FROM STDIN",
        merge=f"{head} SELECT {columns} FROM pg_temp.{_STAGING}{suffix}",
        probe=probe,
    )


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
