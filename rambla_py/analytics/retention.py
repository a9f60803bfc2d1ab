"""Deletion of events: of a user, and of those beyond an age."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from rambla_py.analytics.event_time import time_text

if TYPE_CHECKING:
    from rambla_py.sql import SqlBackend

__all__ = ["delete_before", "delete_user", "existing_tables"]

_AT_ONCE: Final = 10_000
"""Rows of one statement, so that none is long and others can write between two."""

_MAIN: Final = "FROM sqlite_master WHERE type IN ('table', 'view')"
_LISTED: Final = (
    "SELECT CONCAT(table_schema, '.', table_name) AS name FROM information_schema.tables "
    "UNION ALL SELECT table_name FROM information_schema.tables WHERE table_schema "
)
_LISTINGS: Final = {
    "sqlite": f"SELECT name {_MAIN} UNION ALL SELECT 'main.' || name {_MAIN}",
    "postgresql": f"{_LISTED} = ANY (current_schemas(false))",
    "mysql": f"{_LISTED} = DATABASE()",
    "mariadb": f"{_LISTED} = DATABASE()",
}


def delete_user(db: SqlBackend, user_id: str, tables: Iterable[str]) -> dict[str, int]:
    """Delete the events of a user; return how many each table had. Raises ``SqlError``."""
    return _delete(db, "user_id = :user_id", {"user_id": user_id}, tables)


def delete_before(db: SqlBackend, moment: datetime.datetime, tables: Iterable[str]) -> dict[str, int]:
    """Delete the events before a moment, which has a zone; return how many. Raises ``SqlError``."""
    # The column of SQLite holds the text of the events.
    bound = time_text(moment) if db.database.dialect.name == "sqlite" else moment
    return _delete(db, "timestamp < :before", {"before": bound}, tables)


def existing_tables(db: SqlBackend) -> set[str] | None:
    """Return the names of the tables of a database, also with their schemas; None if it cannot tell."""
    if db.database.dialect.is_missing:
        return set()  # a query would create the file
    listing = _LISTINGS.get(db.database.dialect.name)
    return None if listing is None else {row["name"] for row in db.execute(listing).data}


def _delete(db: SqlBackend, where: str, values: dict[str, Any], tables: Iterable[str]) -> dict[str, int]:
    existing = existing_tables(db)
    return {
        table: _delete_rows(db, table, where, values)
        for table in tables
        if existing is None or table in existing
    }


def _delete_rows(db: SqlBackend, table: str, where: str, values: dict[str, Any]) -> int:
    dialect = db.database.dialect
    name = ".".join(map(dialect.quote, table.split(".")))
    some = f"DELETE FROM {name} WHERE id IN (SELECT id FROM {name} WHERE {where} LIMIT {_AT_ONCE})"
    if dialect.name in ("mysql", "mariadb"):
        some = f"DELETE FROM {name} WHERE {where} LIMIT {_AT_ONCE}"
    total = 0
    while deleted := db.execute(some, values).affected_rows:
        total += deleted
    return total
