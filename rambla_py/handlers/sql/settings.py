"""This module is the shape of the tables that configure the ``sql`` handler."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel, secret_text
from rambla_py.handlers.sql.sources import read_columns
from rambla_py.sql.database import Database, SqlTls

__all__ = ["SqlConnection", "SqlOptions", "database_of"]


class SqlConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of an ``sql`` connection.

    >>> SqlConnection(url=Secret("sqlite:///shop.db")).read_timeout_s
    10.0
    """

    url: Annotated[
        Secret,
        Meta(
            description="sqlite:///file, postgresql://user:password@host:port/database, "
            "mysql:// or mariadb://, with the driver's parameters behind a question mark"
        ),
    ]
    tls: Annotated[bool | SqlTls, Meta(description="true, or a table, for TLS with a server")] = False
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="bound of connecting; PostgreSQL counts in whole seconds, at least 2")
    ] = 5.0
    read_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            description="longest silence of the server while an answer is due; SQLite: longest wait for "
            "another writer",
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
        per_channel("the table, or schema.table; the channel's name when not given", min_length=1),
    ] = None
    columns: Annotated[
        dict[str, str] | list[str] | None,
        per_channel(
            "where each column comes from: id, key, headers.NAME, payload, payload.PATH, with ::TYPE behind "
            "it for create_table; a list names columns and keys of the payload at once"
        ),
    ] = None
    id_column: Annotated[str, per_channel('the column of the message\'s id; "" for none')] = "id"
    json_column: Annotated[
        str | None,
        per_channel(
            "the column that takes, as JSON, what of the payload no other column takes; payload when there "
            'are no columns, and none when there are; "" for none'
        ),
    ] = None
    create_table: Annotated[bool, per_channel("make the table when it is not there")] = False
    upsert: Annotated[
        bool,
        per_channel("a message whose id is in the table already replaces that row; needs id_column unique"),
    ] = False
    copy: Annotated[
        bool, per_channel("PostgreSQL: write by COPY; false, behind a pooler of transactions: by INSERT")
    ] = True

    def __post_init__(self) -> None:
        columns = read_columns(self)
        if self.upsert and not self.id_column:
            raise ValueError("upsert without an id_column")
        if not columns:
            raise ValueError("no column at all; give columns, an id_column or a json_column")


def database_of(settings: SqlConnection) -> Database:
    """Return the database that a connection's table describes; raises ``ValueError``, without secrets."""
    tls = settings.tls if isinstance(settings.tls, SqlTls) else SqlTls() if settings.tls else None
    return Database(
        secret_text(settings.url) or "",
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        tls=tls,
    )
