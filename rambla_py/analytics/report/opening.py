"""Opening of the database that a report reads."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final

from rambla_py.analytics.report.clickhouse import ClickHouseSource
from rambla_py.analytics.report.source import Source, SqlSource, for_reading
from rambla_py.handler import Secret
from rambla_py.registry import find_handler
from rambla_py.sql import SqlBackend, SqlOptionError

if TYPE_CHECKING:
    from rambla_py.handlers.clickhouse.reader import ClickHouseReader

__all__ = ["is_clickhouse", "open_database", "source_of"]

_CLICKHOUSE: Final = "clickhouse"


def is_clickhouse(url: str) -> bool:
    """Return whether a URL is that of a ClickHouse, as trackers take it.

    >>> is_clickhouse("clickhouse+https://db.internal/events"), is_clickhouse("sqlite:///analytics.db")
    (True, False)
    """
    return url.partition(":")[0].lower().partition("+")[0] == _CLICKHOUSE


def open_database(url: str, **options: Any) -> SqlBackend | ClickHouseReader:
    """Return the database of a URL, for reading: a file of SQLite is opened read-only, and never created.

    ``options`` are those of ``SqlBackend``. Raises ``SqlOptionError`` if the URL is that of no database, and
    ``HandlerError`` if ClickHouse needs an extra that is missing.
    """
    if not is_clickhouse(url):
        return for_reading(SqlBackend(url, **options), **options)
    handler: Any = find_handler(_CLICKHOUSE)
    scheme, _, rest = url.partition(":")
    try:
        settings = handler.Connection(url=Secret(f"{scheme.partition('+')[2] or 'http'}:{rest}"))
    except ValueError as error:
        raise SqlOptionError("url", str(error)) from None
    reader: ClickHouseReader = handler.reader(settings)
    return reader


def source_of(db: SqlBackend | ClickHouseReader, begin: datetime.datetime, end: datetime.datetime) -> Source:
    """Return the rows of a period in a database."""
    return SqlSource(db, begin, end) if isinstance(db, SqlBackend) else ClickHouseSource(db, begin, end)
