"""Configuration tables of the ``sql`` handler."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rambla_py._internal.tls import TlsTable, tls_table
from rambla_py.handler import Secret, per_channel, routing, secret_text
from rambla_py.handlers._tables.options import (
    Given,
    Indexes,
    TablePlan,
    Tables,
    plan_of,
    read_tables,
)
from rambla_py.sql.database import Database

__all__ = ["SqlOptions", "SqlSettings", "database_of", "table_plans"]


class SqlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of an ``sql`` connection.

    >>> SqlSettings(url=Secret("sqlite:///shop.db")).read_timeout_s
    10.0
    """

    url: Annotated[
        Secret,
        Meta(
            description="sqlite:///file, postgresql://user:password@host:port/database, "
            "mysql:// or mariadb://, with driver parameters after a question mark"
        ),
    ]
    tls: Annotated[bool | TlsTable, Meta(description="true, or a table, for TLS with a server")] = False
    connect_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e9, description="time-out of connecting; PostgreSQL: whole seconds, at least 2"),
    ] = 5.0
    read_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e9,
            description="time-out of a statement, which is then cancelled; SQLite: longest wait for another "
            "writer",
        ),
    ] = 10.0

    def __post_init__(self) -> None:
        database_of(self)


class SqlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of an ``sql`` channel.

    >>> SqlOptions(table="orders", columns={"total": "payload.total::numeric(10, 2)"}).id_column
    'id'
    """

    table: Annotated[
        str | None,
        routing(
            "the table, or schema.table; default the first of tables, or the channel's name; for a message: "
            "one of tables",
            min_length=1,
        ),
    ] = None
    tables: Annotated[
        Given | None,
        per_channel(
            "the tables that messages may name with table: a table with the options of each, a list of "
            'names, or "module:NAME" of a Python mapping or list like these'
        ),
    ] = None
    columns: Annotated[
        dict[str, str] | list[str] | None,
        per_channel(
            "the source of each column: id, key, headers.NAME, payload, payload.PATH, with ::TYPE after it "
            "for create_table; a list names columns with the names of keys of the payload; default: id and "
            "payload, or in a table without a column payload those with the names of the keys"
        ),
    ] = None
    id_column: Annotated[str, per_channel('the column of the message\'s id; "" for none')] = "id"
    json_column: Annotated[
        str | None,
        per_channel(
            "the column for the keys of the payload that no column takes, as JSON; default payload without "
            'columns, and none with them; "" for none'
        ),
    ] = None
    create_table: Annotated[bool, per_channel("create a missing table, and missing indexes")] = False
    add_columns: Annotated[
        bool,
        per_channel("add a missing column to a table that exists; at most 100 for each table"),
    ] = False
    indexes: Annotated[
        Indexes,
        per_channel("the indexes that create_table creates: a column, or a list of columns, for each"),
    ] = []
    upsert: Annotated[
        bool,
        per_channel("replace the row that has the message's id; needs a unique id_column"),
    ] = False
    copy: Annotated[
        bool, per_channel("PostgreSQL: write by COPY; false, behind a transaction pooler: by INSERT")
    ] = True

    wal: Annotated[
        bool,
        per_channel("SQLite: put the file into WAL mode, so that others can read while a batch is written"),
    ] = False

    def __post_init__(self) -> None:
        tables = self.tables
        if type(tables) is not Tables:
            # A message may name no other table: its options are the channel's with this one replaced.
            given = ([self.table] if self.table else []) if tables is None else tables
            tables = read_tables(self, given)
            msgspec.structs.force_setattr(self, "tables", tables)
        if self.table and self.table not in tables:
            raise ValueError(f"the table {self.table!r} is not one of the channel's; list it in tables")


def table_plans(options: SqlOptions, channel: str) -> list[TablePlan]:
    """Return the plans of the tables that a channel writes to; messages that name none go to the first.

    >>> [plan.name for plan in table_plans(SqlOptions(tables=["a", "b"], table="b"), "shop")]
    ['b', 'a']
    >>> [plan.name for plan in table_plans(SqlOptions(), "shop")]
    ['shop']
    """
    tables = read_tables(options, options.tables or [channel])
    first = options.table or next(iter(tables))
    return [plan_of(name, tables[name]) for name in dict.fromkeys([first, *tables])]


def database_of(settings: SqlSettings) -> Database:
    """Return the database that a connection's table describes; raises ``ValueError``, without secrets."""
    return Database(
        secret_text(settings.url) or "",
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        tls=tls_table(settings.tls),
    )
