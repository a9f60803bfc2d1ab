"""Making the tables of a PostgreSQL journal."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from rambla_py.outbox.errors import OutboxSchemaError
from rambla_py.outbox.postgres.connection import fetch
from rambla_py.outbox.postgres.tables import DDL
from rambla_py.outbox.rows import SCHEMA_VERSION

__all__ = ["are_made", "make_tables"]

_LOCK: Final = 0x72616D626C61
"""The advisory lock under which tables are made."""


def are_made(connection: psycopg.Connection[Any], name: str) -> bool:
    """Return whether the tables are there, with their version.

    Raises ``OutboxSchemaError`` for a newer version.
    """
    if not _has_tables(connection):
        return False
    found = fetch(connection, "SELECT max(version) FROM rambla_schema")[0][0]
    if found is not None and found > SCHEMA_VERSION:
        raise OutboxSchemaError(name, found=found, known=SCHEMA_VERSION)
    return found is not None


def make_tables(connection: psycopg.Connection[Any], name: str) -> None:
    """Make what ``are_made`` does not find, in the transaction of the caller."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    if _has_tables(connection):  # another process may have made them in the meantime
        if not are_made(connection, name):  # they were made by an application's migrations
            connection.execute("INSERT INTO rambla_schema (version) VALUES (%s)", (SCHEMA_VERSION,))
        return
    try:
        for statement in DDL:
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise OutboxSchemaError(name, found=0, known=SCHEMA_VERSION) from error


def _has_tables(connection: psycopg.Connection[Any]) -> bool:
    return fetch(connection, "SELECT to_regclass('rambla_message') IS NOT NULL")[0][0] is True
