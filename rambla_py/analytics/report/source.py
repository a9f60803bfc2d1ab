"""Read access to the tables of the events."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rambla_py.analytics.retention import existing_tables
from rambla_py.sql import SqlBackend

__all__ = ["Source", "open_database"]


def open_database(url: str, **options: Any) -> SqlBackend:
    """Return a backend for reading; a file of SQLite is opened read-only, and never created.

    ``options`` are those of ``SqlBackend``. Raises ``SqlOptionError`` if the URL is not that of an SQL
    database.
    """
    db = SqlBackend(url, **options)
    dialect = db.database.dialect
    name = dialect.url.database or ""
    if dialect.name != "sqlite" or not Path(name).is_file():
        return db  # a server, a database in memory, or a file that is not there yet
    query = "&".join([f"{key}={value}" for key, value in dialect.url.query.items()] + ["mode=ro", "uri=true"])
    # Quoted twice: once for SQLite, which reads a URI, and once for the URL of the backend.
    return SqlBackend(f"sqlite:///file:{quote(quote(str(Path(name).absolute())))}?{query}", **options)


class Source:
    """The rows of a period, over a backend; a table or a file that does not exist has none.

    ``exact`` is whether the database adds ``payment_amount`` without rounding: SQLite stores text.
    """

    def __init__(self, db: SqlBackend, begin: datetime.datetime, end: datetime.datetime) -> None:
        self._db = db
        self._dialect = db.database.dialect
        self.exact = self._dialect.name != "sqlite"
        self._period = {"begin": self._bound(begin), "end": self._bound(end)}
        self._tables = existing_tables(db)

    def rows(self, table: str, sql: str, *, where: str = "1 = 1") -> Iterator[dict[str, Any]]:
        """Yield the rows of a query, in which ``{rows}`` are those of the period, with their ``weight``."""
        if self._tables is not None and table not in self._tables:
            return
        rows = (
            f"(SELECT e.*, CASE WHEN sample_rate > 0 THEN 1.0 / sample_rate ELSE 1.0 END AS weight "
            f"FROM {table} e WHERE e.timestamp >= :begin AND e.timestamp < :end AND {where})"
        )
        with self._db.stream(sql.format(rows=rows), self._period) as found:
            yield from found

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
