"""What ``rambla check`` looks at in the database of an outbox; nothing is changed."""

from __future__ import annotations

from typing import Final

import msgspec
import psycopg

from rambla_py._internal.redaction import redact_url
from rambla_py.outbox.errors import OutboxSchemaError
from rambla_py.outbox.postgres.connection import connect, fetch
from rambla_py.outbox.rows import SCHEMA_VERSION
from rambla_py.outbox.transactional.driver_errors import outbox_error

__all__ = ["Survey", "survey"]

_OLD_S: Final = 300.0
_TIMEOUT_S: Final = 10.0

# Vacuum keeps what the oldest transaction might still see, so that removed rows pile up behind it.
_OLD_TRANSACTIONS: Final = """
SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND xact_start < clock_timestamp() - make_interval(secs => %s)
ORDER BY xact_start LIMIT 5
"""


class Survey(msgspec.Struct, frozen=True):
    """Whether the tables are there, and sentences about what slows the outbox down."""

    has_tables: bool
    warnings: tuple[str, ...]


def survey(url: str, *, old_s: float = _OLD_S) -> Survey:
    """Look at a database; transactions older than ``old_s`` seconds are named. Raises ``OutboxError``."""
    name = redact_url(url)
    try:
        with connect(url, _TIMEOUT_S, "rambla check") as connection:
            has_tables = fetch(connection, "SELECT to_regclass('rambla_schema') IS NOT NULL")[0][0]
            found = fetch(connection, "SELECT max(version) FROM rambla_schema")[0][0] if has_tables else None
            old = fetch(connection, _OLD_TRANSACTIONS, old_s)
    except (psycopg.Error, OSError) as error:
        raise outbox_error(name, error) from error
    if found is not None and found > SCHEMA_VERSION:
        raise OutboxSchemaError(name, found=found, known=SCHEMA_VERSION)
    return Survey(has_tables, tuple(_sentence(*one) for one in old))


def _sentence(pid: int, program: str, state: str | None, age_s: float) -> str:
    of = f" of {program!r}" if program else ""
    return (
        f"process {pid}{of} has had a transaction open for {age_s / 60:.0f} minutes ({state}): "
        "removed rows of the outbox cannot be vacuumed, and reading slows down"
    )
