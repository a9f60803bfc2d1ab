"""Read access to the tables of the events in an SQL database."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from rambla_py.analytics.retention import existing_tables
from rambla_py.sql import SqlBackend

__all__ = ["PERCENTILES", "Source", "SqlSource", "for_reading"]

PERCENTILES: Final = (50, 95)


class Source(Protocol):
    """The rows of a period; a table that does not exist has none.

    ``exact`` is whether the database adds ``payment_amount`` without rounding. ``percentiles`` are columns of
    a query over ``ranked``, ``p50`` and ``p95``: by nearest rank, the least value that so many percent of the
    rows do not exceed.
    """

    exact: bool
    percentiles: str

    def rows(self, table: str, sql: str, *, where: str = "1 = 1") -> Iterator[dict[str, Any]]:
        """Yield the rows of a query, in which ``{rows}`` are those of the period.

        They also have ``weight``, and ``occurred_at``, the time in a form that can be compared.
        """
        ...

    def ranked(self, keys: str, value: str, columns: str) -> str:
        """Return the rows with these columns, ``weight``, ``sample_rate``, and what ``percentiles`` need.

        These are of ``value``, among the rows with the same ``keys``; a row without the value has no rank.
        """
        ...

    def text(self, column: str) -> str:
        """Return an expression that distinguishes upper and lower case."""
        ...


def for_reading(db: SqlBackend, **options: Any) -> SqlBackend:
    """Return a backend that only reads; a file of SQLite is opened read-only, and never created."""
    dialect = db.database.dialect
    name = dialect.url.database or ""
    if dialect.name != "sqlite" or not Path(name).is_file():
        return db  # a server, a database in memory, or a file that is not there yet
    query = "&".join([f"{key}={value}" for key, value in dialect.url.query.items()] + ["mode=ro", "uri=true"])
    # Quoted twice: once for SQLite, which reads a URI, and once for the URL of the backend.
    return SqlBackend(f"sqlite:///file:{quote(quote(str(Path(name).absolute())))}?{query}", **options)


class SqlSource:
    """The rows of a period, over a backend; also a file that does not exist has none."""

    percentiles = ", ".join(
        f"MIN(CASE WHEN reached * 100 >= ranked_weight * {percent} THEN measured END) AS p{percent}"
        for percent in PERCENTILES
    )

    def __init__(self, db: SqlBackend, begin: datetime.datetime, end: datetime.datetime) -> None:
        self._db = db
        self._dialect = db.database.dialect
        # SQLite stores text, and a sum of text is a sum of floats.
        self.exact = self._dialect.name != "sqlite"
        self._period = {"begin": self._bound(begin), "end": self._bound(end)}
        self._tables = existing_tables(db)

    def rows(self, table: str, sql: str, *, where: str = "1 = 1") -> Iterator[dict[str, Any]]:
        """Yield the rows of a query over those of the period."""
        if self._tables is not None and table not in self._tables:
            return
        rows = (
            f"(SELECT e.*, CASE WHEN sample_rate > 0 THEN 1.0 / sample_rate ELSE 1.0 END AS weight, "
            f"e.timestamp AS occurred_at "
            f"FROM {table} e WHERE e.timestamp >= :begin AND e.timestamp < :end AND {where})"
        )
        with self._db.stream(sql.format(rows=rows), self._period) as found:
            yield from found

    def ranked(self, keys: str, value: str, columns: str) -> str:
        """Return the rows with, for each, the weight of those before it, and of all, of its keys."""
        partition = f"PARTITION BY {keys} " if keys else ""
        known = f"CASE WHEN {value} IS NULL THEN 0 ELSE weight END"
        return (
            f"(SELECT {columns}, {value} AS measured, weight, sample_rate, "
            f"SUM({known}) OVER ({partition}ORDER BY {value} ROWS UNBOUNDED PRECEDING) AS reached, "
            f"SUM({known}) OVER ({partition.strip()}) AS ranked_weight FROM {{rows}} r) ranked"
        )

    def text(self, column: str) -> str:
        """Return an expression that distinguishes upper and lower case, which MariaDB's columns ignore."""
        if self._dialect.name in ("mysql", "mariadb"):
            return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_bin"
        return column

    def _bound(self, at: datetime.datetime) -> Any:
        if self._dialect.name == "sqlite":
            # Its column holds the text of the events.
            return at.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return at
