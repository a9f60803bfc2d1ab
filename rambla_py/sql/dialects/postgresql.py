"""PostgreSQL, by psycopg 3."""

from __future__ import annotations

import datetime
import decimal
import math
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus

from rambla_py.sql.bulk import BulkWriter, DriverErrors, Statements
from rambla_py.sql.column_forms import ColumnForm, array_form
from rambla_py.sql.dialect import ConnectOptions, SqlDialect, one_line
from rambla_py.sql.dialects.on_conflict import on_conflict
from rambla_py.sql.dialects.postgresql_connection import (
    CANCEL_S,
    AsyncPostgresConnection,
    PostgresConnection,
)
from rambla_py.sql.dialects.postgresql_errors import is_about_access, postgres_error
from rambla_py.sql.dialects.postgresql_writer import PostgresWriter
from rambla_py.sql.dialects.url_parameters import check_known
from rambla_py.sql.errors import SqlAccessError, SqlConnectionLostError, SqlError
from rambla_py.sql.placeholders import Syntax

__all__ = ["PostgresDialect"]

_NO_SUCH_KEY = "42P10"
_BOUND_MS = 500
_SHORT_MS = 20
# A setting of the session would stay behind a transaction pooler, for other clients. It gives its own
# numbers to connections, so that theirs are not those of a server's session.
_BOUND = f"""
    SELECT set_config('lock_timeout', '{_BOUND_MS}', false) FROM pg_settings
    WHERE name = 'lock_timeout' AND setting::integer NOT BETWEEN 1 AND {_BOUND_MS} AND pg_backend_pid() =
"""
_UNBOUND = """
    SELECT set_config('lock_timeout', reset_val, false) FROM pg_settings
    WHERE name = 'lock_timeout' AND setting <> reset_val AND pg_backend_pid() =
"""


class PostgresDialect(SqlDialect):
    """PostgreSQL; also what speaks its protocol closely enough for psycopg."""

    name = "postgresql"
    driver = "postgresql+psycopg"
    async_driver = "postgresql+psycopg_async"
    default_port = 5432
    charset_parameter = "client_encoding"
    has_tls = True
    placeholder = "%s"
    syntax: ClassVar[Syntax] = Syntax(
        nested_comments=True,
        dollar_quotes=True,
        escape_strings=True,
        question_operators=True,
        colon_casts=True,
    )
    plain_types: ClassVar[frozenset[type]] = SqlDialect.plain_types | {
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }

    # -- the URL ------------------------------------------------------------------------------------

    def check_url(self) -> None:
        known = frozenset(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())
        check_known(self, known, check=lambda name, value: psycopg.conninfo.make_conninfo(**{name: value}))

    # -- connections --------------------------------------------------------------------------------

    def open(self, options: ConnectOptions) -> PostgresConnection:
        raw = PostgresConnection.connect(**self._connect_arguments(options), autocommit=options.autocommit)
        raw.read_timeout_s = options.read_timeout_s
        return raw

    async def open_async(self, options: ConnectOptions) -> AsyncPostgresConnection:
        raw = await AsyncPostgresConnection.connect(
            **self._connect_arguments(options), autocommit=options.autocommit
        )
        raw.read_timeout_s = options.read_timeout_s
        return raw

    def ping(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT 1").fetchall()

    def prepare_nothing(self, connection: PostgresConnection) -> None:
        connection.prepare_threshold = None

    def bound_waits(self, connection: PostgresConnection, *, bounded: bool) -> None:
        # What only speaks the protocol may not have the setting; a lost connection shows at the next batch.
        with suppress(psycopg.Error):
            connection.execute(f"{_BOUND if bounded else _UNBOUND} {connection.info.backend_pid}")

    @contextmanager
    def short_waits(self, connection: PostgresConnection) -> Iterator[None]:
        with DriverErrors(self.map_error):
            connection.execute(f"SET LOCAL lock_timeout = {_SHORT_MS}")  # until the transaction ends
        yield

    def interrupt(self, connection: PostgresConnection) -> None:
        with suppress(Exception):
            connection.cancel_safe(timeout=CANCEL_S)
        with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as other:
            other.shutdown(socket.SHUT_RDWR)

    def _connect_arguments(self, options: ConnectOptions) -> dict[str, Any]:
        _, named = self.arguments(self.url.set(drivername=self.driver))
        named.setdefault("connect_timeout", max(1, math.ceil(options.connect_timeout_s)))
        named.setdefault("application_name", "rambla_py")
        # The default is the database's own, and for SQL_ASCII psycopg returns bytes instead of strings.
        named.setdefault("client_encoding", "UTF8")
        if (tls := options.tls) is not None:
            named["sslmode"] = "verify-full" if tls.verify else "require"
            named["sslrootcert"] = tls.ca_file or ("system" if tls.verify else None)
            named["sslcert"], named["sslkey"] = tls.cert_file, tls.key_file
        return {name: value for name, value in named.items() if value is not None}

    # -- errors -------------------------------------------------------------------------------------

    def map_error(self, error: BaseException) -> SqlError:
        return postgres_error(error)

    def map_connect_error(self, error: BaseException) -> SqlConnectionLostError:
        kind = SqlAccessError if is_about_access(error) else SqlConnectionLostError
        code = getattr(error, "sqlstate", None) or ""
        return kind(f"cannot connect to {self.where}: {one_line(error)}", code=code)

    # -- transactions -------------------------------------------------------------------------------

    def has_ended(self, connection: Any, error: SqlError) -> bool:
        raw = getattr(connection, "driver_connection", connection)
        return bool(raw.info.transaction_status == TransactionStatus.INERROR)

    # -- SQL ----------------------------------------------------------------------------------------

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def upsert(self, names: Sequence[str], key: str) -> str:
        return on_conflict(self, names, key)

    def upsert_probe(self, table: str, names: Sequence[str], key: str) -> str:
        into = ".".join(map(self.quote, table.split(".")))
        return f"EXPLAIN INSERT INTO {into} DEFAULT VALUES ON CONFLICT ({self.quote(key)}) DO NOTHING"

    def column_form(self, kind: Any) -> ColumnForm | None:
        return array_form(kind.item_type) if isinstance(kind, sqlalchemy.ARRAY) else super().column_form(kind)

    def is_missing_key(self, error: SqlError) -> bool:
        return error.code == _NO_SUCH_KEY

    def writer(
        self, connection: Any, statements: Statements, names: Sequence[str], *, copy: bool, upsert: str | None
    ) -> BulkWriter:
        return PostgresWriter(connection, statements, names, copy=copy, upsert_on=upsert)
