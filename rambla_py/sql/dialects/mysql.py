"""MySQL and MariaDB, by PyMySQL, and asyncmy for asyncio."""

from __future__ import annotations

import datetime
import decimal
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pymysql
import pymysql.charset
import sqlalchemy
from sqlalchemy.dialects import mysql

from rambla_py._internal.tls import TlsTable, client_context
from rambla_py.errors import AccessError
from rambla_py.sql.bulk import BulkWriter, MapError, Row, Statements, TransactionWriter
from rambla_py.sql.column_forms import ColumnForm
from rambla_py.sql.dialect import ConnectOptions, SqlDialect, one_line
from rambla_py.sql.dialects.mysql_connection import MysqlConnection, MysqlLockWaits
from rambla_py.sql.dialects.mysql_errors import ENDS_TRANSACTION, is_about_access, mysql_error
from rambla_py.sql.dialects.pymysql_private import abandon_rows, socket_number
from rambla_py.sql.dialects.url_parameters import check_known
from rambla_py.sql.errors import SqlAccessError, SqlConnectionLostError, SqlError, SqlTooLargeError
from rambla_py.sql.placeholders import Syntax

__all__ = ["MariaDbDialect", "MysqlDialect", "MysqlWriter"]

# What SQLAlchemy converts from strings, and PyMySQL takes as a string.
_PARAMETERS = frozenset(
    {
        "bind_address", "charset", "client_flag", "collation", "connect_timeout", "init_command",
        "local_infile", "program_name", "read_default_file", "read_default_group", "read_timeout",
        "sql_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_check_hostname", "ssl_cipher", "ssl_key",
        "ssl_key_password", "unix_socket", "use_unicode", "write_timeout",
    }
)  # fmt: skip
# Otherwise the server silently truncates values and clips numbers; in tables without transactions also under
# STRICT_TRANS_TABLES.
_STRICT = "SET SESSION sql_mode = CONCAT_WS(',', @@sql_mode, 'STRICT_ALL_TABLES')"
# The server converts the times of a TIMESTAMP column from and to the session's zone; ours are in UTC.
_STRICT_UTC = f"{_STRICT}, time_zone = '+00:00'"

_LARGE = sqlalchemy.String | sqlalchemy.JSON | sqlalchemy.types._Binary
_LEAST_S = 1
"""The shortest wait for a lock that MySQL knows; MariaDB also knows none."""

_INDEXED = 191
"""Characters of a large column in an index: four such columns fit the 3,072 bytes of InnoDB."""


class MysqlDialect(SqlDialect):
    """MySQL."""

    name = "mysql"
    driver = "mysql+pymysql"
    async_driver = "mysql+asyncmy"
    default_port = 3306
    charset_parameter = "charset"
    has_tls = True
    drains_streams = True
    placeholder = "%s"
    syntax: ClassVar[Syntax] = Syntax(backslash_escapes=True, hash_comments=True, dash_needs_space=True)
    plain_types: ClassVar[frozenset[type]] = SqlDialect.plain_types | {
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
    }

    # -- the URL ------------------------------------------------------------------------------------

    def check_url(self) -> None:
        check_known(self, _PARAMETERS, check=_check_charset)

    # -- connections --------------------------------------------------------------------------------

    def open(self, options: ConnectOptions) -> pymysql.Connection[Any]:
        named = self._connect_arguments(options)
        raw = MysqlConnection(**{**named, "write_timeout": options.read_timeout_s})
        try:
            with raw.cursor() as cursor:
                cursor.execute(_session(named))
        except BaseException:
            raw.close()
            raise
        return raw

    async def open_async(self, options: ConnectOptions) -> Any:
        import asyncmy

        named = self._connect_arguments(options)
        raw = await asyncmy.connect(**named)
        try:
            async with raw.cursor() as cursor:
                await cursor.execute(_session(named))
        except BaseException:
            raw.close()
            raise
        return raw

    def ping(self, connection: pymysql.Connection[Any]) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.fetchall()

    def bound_waits(self, connection: MysqlConnection, *, bounded: bool) -> None:
        # A server without InnoDB has no such setting; a lost connection shows at the next batch.
        with suppress(pymysql.err.MySQLError):
            first = connection.first_lock_waits = connection.first_lock_waits or connection.lock_waits()
            connection.set_lock_waits(first.at_most(_LEAST_S) if bounded else first)

    @contextmanager
    def short_waits(self, connection: MysqlConnection) -> Iterator[None]:
        before: MysqlLockWaits | None = None
        with suppress(pymysql.err.MySQLError):  # as above: then waits are as long as they were
            before = connection.lock_waits()
            connection.set_lock_waits(before.at_most(0 if connection.is_mariadb else _LEAST_S))
        try:
            yield
        finally:
            with suppress(pymysql.err.MySQLError):
                if before is not None:
                    connection.set_lock_waits(before)

    def interrupt(self, connection: MysqlConnection) -> None:
        with suppress(Exception):
            connection.end_session()
        with suppress(Exception), socket.socket(fileno=os.dup(socket_number(connection))) as other:
            other.shutdown(socket.SHUT_RDWR)

    def abandon(self, cursor: Any) -> None:
        # The asyncio driver's cursors are adapted by SQLAlchemy.
        abandon_rows(getattr(cursor, "_cursor", cursor))

    def _connect_arguments(self, options: ConnectOptions) -> dict[str, Any]:
        _, named = self.arguments(self.url.set(drivername=self.driver))
        named.setdefault("charset", "utf8mb4")
        if options.tls is not None:
            named["ssl"] = self._context(options.tls)
        return {
            **named,
            "autocommit": options.autocommit,
            "connect_timeout": options.connect_timeout_s,
            "read_timeout": options.read_timeout_s,
        }

    def _context(self, tls: TlsTable) -> ssl.SSLContext:
        try:
            return client_context(tls, self.where)
        except AccessError as error:
            raise SqlAccessError(str(error)) from error

    # -- errors -------------------------------------------------------------------------------------

    def map_error(self, error: BaseException) -> SqlError:
        return mysql_error(error)

    def map_connect_error(self, error: BaseException) -> SqlConnectionLostError:
        kind = SqlAccessError if is_about_access(error) else SqlConnectionLostError
        numbered = len(error.args) > 1 and isinstance(error.args[0], int)
        text = " ".join(str(error.args[1]).split()) if numbered else one_line(error)
        return kind(f"cannot connect to {self.where}: {text}")

    # -- transactions -------------------------------------------------------------------------------

    def has_ended(self, connection: Any, error: SqlError) -> bool:
        return error.code in ENDS_TRANSACTION

    # -- SQL ----------------------------------------------------------------------------------------

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def upsert(self, names: Sequence[str], key: str) -> str:
        pairs = [f"{self.quote(name)} = VALUES({self.quote(name)})" for name in names if name != key]
        return f"ON DUPLICATE KEY UPDATE {', '.join(pairs or [f'{self.quote(key)} = {self.quote(key)}'])}"

    def upsert_probe(self, table: str, names: Sequence[str], key: str) -> str:
        schema, _, name = table.rpartition(".")
        place = (
            f"table_schema = {_literal(schema) if schema else 'DATABASE()'} AND table_name = {_literal(name)}"
        )
        return (
            f"SELECT 1 FROM information_schema.statistics WHERE {place} AND non_unique = 0 "
            f"AND column_name = {_literal(key)} "
            f"UNION ALL SELECT 1 FROM information_schema.views WHERE {place}"
        )

    def writer(
        self, connection: Any, statements: Statements, names: Sequence[str], *, copy: bool, upsert: str | None
    ) -> BulkWriter:
        return MysqlWriter(connection, statements, self.map_error)

    # -- types --------------------------------------------------------------------------------------

    def column_type(self, kind: Any) -> Any:
        """Return a type as large as those of other databases: MySQL's TEXT ends at 64 kB."""
        return mysql.LONGTEXT() if type(kind) is sqlalchemy.Text else kind

    def id_type(self, kind: Any, alchemy: Any) -> Any:
        """Return a string that compares byte by byte, with spaces at its end; the default ignores case."""
        if not isinstance(kind, sqlalchemy.String) or kind.length is None:
            return self.column_type(kind)
        if alchemy.is_mariadb:
            collation = "utf8mb4_nopad_bin"
        else:
            collation = "utf8mb4_0900_bin" if alchemy.server_version_info >= (8, 0, 17) else "utf8mb4_bin"
        return mysql.VARCHAR(kind.length, charset="utf8mb4", collation=collation)

    def index_length(self, kind: Any) -> int | None:
        # MySQL indexes a TEXT or a BLOB by its first characters only.
        whole = isinstance(
            kind, sqlalchemy.VARCHAR | sqlalchemy.CHAR | sqlalchemy.VARBINARY | sqlalchemy.Enum
        )
        return None if whole or not isinstance(kind, _LARGE) else _INDEXED

    def column_form(self, kind: Any) -> ColumnForm | None:
        # The server rounds a fraction in every column that holds integers, and does not say so.
        return super().column_form(sqlalchemy.Integer() if isinstance(kind, mysql.YEAR | mysql.BIT) else kind)

    def adapt_time(self, value: datetime.datetime, *, naive: bool) -> Any:
        # The driver would drop the zone.
        return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo is not None else value


class MariaDbDialect(MysqlDialect):
    """MariaDB."""

    name = "mariadb"
    driver = "mariadb+pymysql"
    async_driver = "mariadb+asyncmy"


class MysqlWriter(TransactionWriter):
    """Writes many rows with each statement, up to ``max_allowed_packet`` and 1 MB."""

    def __init__(self, raw: Any, texts: Statements, map_error: MapError) -> None:
        self._cursor = raw.cursor()
        super().__init__(raw, texts, self._cursor.execute, map_error)
        self._cursor.execute("SELECT @@max_allowed_packet")
        (self._packet,) = self._cursor.fetchone()
        self._cursor.max_stmt_length = min(1_000_000, self._packet - 1_024)

    def write(self, rows: Sequence[Row]) -> None:
        with self.errors:
            self._cursor.executemany(self.statements.insert, rows)

    def check(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._check(row)

    def _check(self, row: Row) -> None:
        size = sum(len(value) for value in row if isinstance(value, str | bytes))
        if size * 4 < self._packet - 10_000:
            return
        # The server closes the connection when it receives more, which would look like a loss.
        text = self._cursor.mogrify(self.statements.insert, row)
        size = len(text.encode(errors="replace"))
        if size >= self._packet:
            reason = f"the row has {size} bytes; the server's limit, max_allowed_packet, is {self._packet}"
            raise SqlTooLargeError(reason, size=size, limit=self._packet)


def _check_charset(name: str, value: Any) -> None:
    if name == "charset" and pymysql.charset.charset_by_name(value) is None:
        raise LookupError(name)


def _session(named: dict[str, Any]) -> str:
    """Return the statement that begins a session; a time zone that the URL sets stays."""
    return _STRICT if "time_zone" in str(named.get("init_command", "")).lower() else _STRICT_UTC


def _literal(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "''") + "'"
