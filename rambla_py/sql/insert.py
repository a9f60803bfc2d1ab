"""INSERT statements for rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rambla_py.sql.bulk import Statements
from rambla_py.sql.dialect import SqlDialect

__all__ = ["insert_statements"]


def insert_statements(
    dialect: SqlDialect, table: str, names: Sequence[str], *, upsert: str | None = None
) -> Statements:
    """Return the statements for rows of these columns; with ``upsert`` they replace by that column.

    >>> import sqlalchemy
    >>> from rambla_py.sql.dialects.sqlite import SqliteDialect
    >>> sqlite = SqliteDialect(sqlalchemy.make_url("sqlite+pysqlite://"))
    >>> insert_statements(sqlite, "orders", ["id", "total"]).insert
    'INSERT INTO "orders" ("id", "total") VALUES (?, ?)'
    """
    into = ".".join(map(dialect.quote, table.split(".")))
    columns = ", ".join(map(dialect.quote, names))
    suffix = "" if upsert is None else f" {dialect.upsert(names, upsert)}"
    probe = "" if upsert is None else dialect.upsert_probe(table, names, upsert)
    mark = dialect.placeholder or {"qmark": "?"}.get(dialect.alchemy.paramstyle, "%s")
    # Drivers that format take a percent sign in a name as a placeholder.
    escaped: Callable[[str], str] = str if mark == "?" else lambda text: text.replace("%", "%%")
    return Statements(
        into,
        len(names),
        escaped(f"INSERT INTO {into} ({columns})"),
        f"({', '.join([mark] * len(names))})",
        escaped(suffix),
        f"COPY {into} ({columns}) FROM STDIN",
        probe,
    )
