"""Connection table and channel options of the ``clickhouse`` handler."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from rambla_py.errors import PermanentError
from rambla_py.handler import Secret, per_channel, routing, secret_text
from rambla_py.handlers._http.compression import Compression
from rambla_py.handlers._http.settings import WebSettings
from rambla_py.handlers._tables.options import Given, TableOptions, TablePlan, Tables, plan_of, read_tables
from rambla_py.handlers.clickhouse.definition import check_types
from rambla_py.handlers.clickhouse.encode import table_name

__all__ = ["ClickHouseSettings", "ClickHouseOptions"]

_NAME = re.compile(r"[A-Za-z_]\w*")
_TAKEN = frozenset({"query", "user", "password", "database", "quota_key", "session_id", "format"})


class ClickHouseSettings(WebSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``clickhouse`` connection: a ``url``, or its parts.

    The single fields win over the URL, whose path may name the database.

    >>> ClickHouseSettings(url=Secret("http://shop:hunter2@db:8123/events")).login()[0]
    'shop'
    """

    port: Annotated[
        int | None, Meta(ge=1, le=65535, description="TCP port; by default 8123, or 8443 with TLS")
    ] = None
    username: Annotated[str | None, Meta(description="by default the server's default user")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    database: Annotated[str | None, Meta(description="by default the user's default database")] = None
    settings: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="ClickHouse settings of every insert, such as insert_quorum = 2"),
    ] = msgspec.field(default_factory=dict)
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="inserts that one worker may have in flight, beside 32 of messages sent alone",
        ),
    ] = 4

    def __post_init__(self) -> None:
        WebSettings.__post_init__(self)
        for name, value in self.settings.items():
            if not _NAME.fullmatch(name) or name in _TAKEN:
                raise ValueError(f"settings with {name!r}, which is not a setting of ClickHouse")
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"settings.{name} with control characters")
        self._from_query()

    def default_port(self, scheme: str) -> int:
        """Return the port of ClickHouse's HTTP interface."""
        return 8443 if scheme == "https" else 8123

    def login(self) -> tuple[str | None, Secret | None]:
        """Return user and password, from the fields or the URL."""
        endpoint = self.endpoint()
        query = self._from_query()
        password = self.password or endpoint.password
        if password is None and "password" in query:
            password = Secret(query["password"])
        return self.username or endpoint.username or query.get("user"), password

    def database_name(self) -> str | None:
        """Return the database, from the field or the URL."""
        return self.database or self.endpoint().path.strip("/") or self._from_query().get("database") or None

    def login_headers(self) -> tuple[tuple[str, str], ...]:
        """Return user and password as headers, which no log of requests has."""
        username, password = self.login()
        given = (("x-clickhouse-user", username), ("x-clickhouse-key", secret_text(password)))
        return tuple((name, value) for name, value in given if value is not None)

    def database_parameter(self) -> dict[str, str]:
        """Return the database as a parameter of a request; empty for the user's own."""
        database = self.database_name()
        return {} if database is None else {"database": database}

    def _from_query(self) -> dict[str, str]:
        found = dict(parse_qsl(self.endpoint().query))
        unknown = sorted(set(found) - {"user", "password", "database"})
        if unknown:
            raise ValueError(f"a url with parameters that are not known: {', '.join(unknown)}; see settings")
        return found


class ClickHouseOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``clickhouse`` channel.

    >>> ClickHouseOptions(table="events", id_column="id").async_insert
    False
    """

    table: Annotated[
        str,
        routing(
            "TABLE or DATABASE.TABLE, at most 500 characters; default the first of tables, or the channel's "
            "name; for a message, with tables or columns: one of tables"
        ),
    ] = ""
    tables: Annotated[
        Given | None,
        per_channel(
            "the tables that messages may name with table: a table with the options of each, a list of "
            'names, or "module:NAME" of a Python mapping or list like these; default: any'
        ),
    ] = None
    columns: Annotated[
        dict[str, str] | list[str] | None,
        per_channel(
            "the source of each column: id, key, headers.NAME, payload, payload.PATH, with ::TYPE after it "
            "for create_table; a list names columns with the names of keys of the payload; default: those "
            "with the names of the keys"
        ),
    ] = None
    id_column: Annotated[
        str,
        Meta(description='the column for the message\'s id; "" for none; with columns, that of the channel'),
    ] = ""
    json_column: Annotated[
        str | None,
        per_channel("with columns: the column for the keys of the payload that no column takes, as JSON"),
    ] = None
    create_table: Annotated[
        bool, per_channel("create a missing table, with the columns of columns, which it needs")
    ] = False
    async_insert: Annotated[
        bool,
        per_channel("let the server combine the rows of many inserts; ok still means that they were written"),
    ] = False
    skip_unknown: Annotated[
        bool, per_channel("true: keys without a column are ignored; false: their row is fatal")
    ] = False
    compression: Annotated[Compression, per_channel("of bodies of at least compress_above bytes")] = "gzip"
    compress_above: Annotated[int, per_channel("smaller bodies are not compressed", ge=0)] = 1_024
    timeout_s: Annotated[
        float, per_channel("limit for one insert; attempt_timeout_s should be longer", gt=0, le=1e9)
    ] = 25.0

    def __post_init__(self) -> None:
        if type(self.tables) is not Tables:
            self._read_tables()
        self._check_table()

    def _check_table(self) -> None:
        if self.tables is not None and self.table and self.table not in self.tables:
            raise ValueError(f"the table {self.table!r} is not one of the channel's; list it in tables")

    def plans(self, channel: str) -> dict[str, TablePlan | None]:
        """Return the tables of a channel, the default first; None for one whose columns payloads name."""
        if self.tables is None:
            return {self.table or channel: None}
        tables = read_tables(self, self.tables or [self.table or channel])
        first = self.table or next(iter(tables))
        return {name: _plan(name, tables[name]) for name in dict.fromkeys([first, *tables])}

    def _read_tables(self) -> None:
        given = self.tables
        if given is None:
            if self.columns is None and self.json_column is None and not self.create_table:
                return  # a message may name any table
            given = [self.table] if self.table else []
        tables = read_tables(self, given)
        msgspec.structs.force_setattr(self, "tables", tables)
        self._check_table()
        for name, plan in self.plans("channel").items():
            try:
                table_name(name)
            except PermanentError as error:
                raise ValueError(str(error)) from None
            if plan is not None:
                check_types(plan)
            elif self.create_table:
                raise ValueError("create_table without columns" + (f" (table {name!r})" if tables else ""))


def _plan(name: str, table: TableOptions) -> TablePlan | None:
    by_name = table.columns is None and not table.json_column
    return None if by_name else plan_of(name, table)
