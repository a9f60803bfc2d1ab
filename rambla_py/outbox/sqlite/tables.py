"""The tables of a SQLite journal."""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing

from rambla_py.outbox.digests import DUPLICATE
from rambla_py.outbox.errors import OutboxSchemaError
from rambla_py.outbox.rows import SCHEMA_VERSION

__all__ = ["DDL", "are_missing", "migrate"]

_ENTRY = """SELECT 1 FROM rambla_seen AS seen JOIN rambla_target AS target ON number = seen.target
        WHERE name = NEW.target AND id = NEW.id AND (until IS NULL OR until > NEW.accepted)"""
_KNOWN = f"(NEW.digest IS NOT NULL AND EXISTS ({_ENTRY}))"

DDL = (
    """
CREATE TABLE rambla_message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL DEFAULT 0,
    target INTEGER NOT NULL,
    id TEXT NOT NULL,
    key TEXT,
    accepted REAL NOT NULL,
    due REAL,
    wait_s REAL NOT NULL DEFAULT 0,
    options BLOB,
    form TEXT NOT NULL DEFAULT 'value',
    payload BLOB NOT NULL,
    crc INTEGER NOT NULL,
    given_id INTEGER NOT NULL DEFAULT 0,
    progress BLOB,
    started INTEGER NOT NULL DEFAULT 0
) STRICT""",
    # The head of a small target must not be searched for among a million rows of another one.
    "CREATE INDEX rambla_message_head ON rambla_message (target, owner, seq)",
    "CREATE INDEX rambla_message_due ON rambla_message (due) WHERE due IS NOT NULL",
    """
CREATE TABLE rambla_dead (
    seq INTEGER PRIMARY KEY,
    target INTEGER NOT NULL,
    id TEXT NOT NULL,
    key TEXT,
    accepted REAL NOT NULL,
    options BLOB,
    form TEXT NOT NULL,
    payload BLOB NOT NULL,
    crc INTEGER NOT NULL,
    given_id INTEGER NOT NULL,
    progress BLOB,
    owner INTEGER NOT NULL,
    died REAL NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    errors TEXT NOT NULL,
    handler TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    replayed INTEGER NOT NULL DEFAULT 0
) STRICT""",
    "CREATE INDEX rambla_dead_id ON rambla_dead (id)",
    # Which letters were replayed lately: a second replay reports them as such, and not as gone.
    "CREATE TABLE rambla_replayed (letter INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL) STRICT",
    "CREATE INDEX rambla_replayed_id ON rambla_replayed (id)",
    "CREATE INDEX rambla_replayed_at ON rambla_replayed (at)",
    # ``seq`` is the row that waits: there is no index to find it by its id.
    """
CREATE TABLE rambla_seen (
    target INTEGER NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    seq INTEGER,
    status TEXT,
    until REAL,
    PRIMARY KEY (target, id)
) STRICT, WITHOUT ROWID""",
    """
CREATE TABLE rambla_account (
    target INTEGER NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (target, name)
) STRICT, WITHOUT ROWID""",
    # Numbers of owners are never used again: AUTOINCREMENT. Owner 0 has the rows of those who only write.
    # ``adopter`` is the owner whose process has taken over the rows of one that has ended.
    """
CREATE TABLE rambla_owner (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    started REAL NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0,
    adopter INTEGER
) STRICT""",
    "INSERT INTO rambla_owner (number, started) VALUES (0, 0)",
    # Up to which row the rows of an owner were handed out; without an entry, all of them were.
    """
CREATE TABLE rambla_handed (
    owner INTEGER NOT NULL,
    target INTEGER NOT NULL,
    upto INTEGER,
    deaths TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (owner, target)
) STRICT, WITHOUT ROWID""",
    "CREATE TABLE rambla_target (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    # Where transactions of applications put rows: one statement stores, counts, and looks for duplicates.
    """
CREATE VIEW rambla_arrival AS
SELECT target.name AS target, id, key, accepted, due, wait_s, options, form, payload, crc, NULL AS digest
FROM rambla_message AS message JOIN rambla_target AS target ON target.number = message.target""",
    f"""
CREATE TRIGGER rambla_arrive INSTEAD OF INSERT ON rambla_arrival BEGIN
    INSERT INTO rambla_target (name) SELECT NEW.target
    WHERE NOT EXISTS (SELECT 1 FROM rambla_target WHERE name = NEW.target);
    SELECT RAISE(ABORT, '{DUPLICATE}')
    WHERE NEW.digest IS NOT NULL AND EXISTS ({_ENTRY} AND digest <> NEW.digest);
    INSERT INTO rambla_account (target, name, count)
    SELECT number, CASE WHEN {_KNOWN} THEN 'duplicates' ELSE 'accepted' END, 1
    FROM rambla_target WHERE name = NEW.target
    ON CONFLICT (target, name) DO UPDATE SET count = count + 1;
    INSERT INTO rambla_message (target, id, key, accepted, due, wait_s, options, form, payload, crc, given_id)
    SELECT number, NEW.id, NEW.key, NEW.accepted, NEW.due, NEW.wait_s, NEW.options, NEW.form, NEW.payload,
        NEW.crc, NEW.digest IS NOT NULL
    FROM rambla_target WHERE name = NEW.target AND NOT {_KNOWN};
    INSERT OR REPLACE INTO rambla_seen (target, id, digest, seq)
    SELECT number, NEW.id, NEW.digest, last_insert_rowid() FROM rambla_target
    WHERE name = NEW.target AND NEW.digest IS NOT NULL AND NOT {_KNOWN};
END""",
    "CREATE TABLE rambla_schema (version INTEGER NOT NULL) STRICT",
    f"INSERT INTO rambla_schema (version) VALUES ({SCHEMA_VERSION})",
)


_COLUMNS = """
SELECT DISTINCT found.name || '.' || info.name
FROM sqlite_schema AS found JOIN pragma_table_info(found.name) AS info
WHERE found.type = 'table' AND substr(found.name, 1, 7) = 'rambla_'
"""


def are_missing(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether there are no tables of an outbox.

    Raises ``OutboxSchemaError`` for a newer version, and for tables that lack something.
    """
    version, found = _version_of(connection), _columns_of(connection)
    if version > SCHEMA_VERSION:
        raise OutboxSchemaError(name, found=version, known=SCHEMA_VERSION)
    if version or any(column.startswith("rambla_message.") for column in found):
        if lacking := _lacking(found):
            raise OutboxSchemaError(name, found=version, known=SCHEMA_VERSION, lacking=lacking)
        return False
    return True


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Make the tables where there are none; the caller has begun a transaction.

    The file may be an application's: every name begins with ``rambla_``. Raises ``OutboxSchemaError`` as
    ``are_missing`` does.
    """
    if are_missing(connection, name):
        _make(connection)


def _make(connection: sqlite3.Connection) -> None:
    for statement in DDL:
        connection.execute(statement)


def _lacking(found: frozenset[str]) -> list[str]:
    """Return the columns that are not there, or their table where that is not there either."""
    tables = {column.partition(".")[0] for column in found}
    missing = [(column.partition(".")[0], column) for column in _columns() - found]
    return sorted({column if table in tables else table for table, column in missing})


@functools.cache
def _columns() -> frozenset[str]:
    """Return the columns that this release uses."""
    with closing(sqlite3.connect(":memory:")) as connection:
        _make(connection)
        return _columns_of(connection)


def _columns_of(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the columns of all tables of an outbox, each as ``table.column``."""
    return frozenset(column for (column,) in connection.execute(_COLUMNS))


def _version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if none is recorded."""
    query = "SELECT 1 FROM sqlite_schema WHERE name = 'rambla_schema'"
    if connection.execute(query).fetchone() is None:
        return 0
    version: int | None = connection.execute("SELECT max(version) FROM rambla_schema").fetchone()[0]
    return version or 0
