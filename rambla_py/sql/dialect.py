"""``SqlDialect``: what is particular to one database."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, NamedTuple

import sqlalchemy

from rambla_py._internal.tls import TlsTable
from rambla_py.sql.bulk import BulkWriter, DbapiWriter, Statements
from rambla_py.sql.column_forms import ColumnForm, form_of
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlBusyError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlIntegrityError,
    SqlPermissionError,
    SqlStatementError,
    SqlUnavailableError,
)
from rambla_py.sql.placeholders import Syntax

__all__ = ["ConnectOptions", "SqlDialect", "conversion_error", "one_line"]

_BY_CLASS: dict[str, type[SqlError]] = {
    "IntegrityError": SqlIntegrityError,
    "DataError": SqlDataError,
    "ProgrammingError": SqlStatementError,
    "NotSupportedError": SqlStatementError,
    "InterfaceError": SqlConnectionLostError,
    "InternalError": SqlBusyError,
}
_BY_SQLSTATE: dict[str, type[SqlError]] = {
    "08": SqlConnectionLostError,
    "22": SqlDataError,
    "23": SqlIntegrityError,
    "28": SqlAccessError,
    "40": SqlConflictError,
    "42": SqlStatementError,
}
_SQLSTATE = 5
"""Characters of a SQLSTATE."""

_CONVERSIONS = (
    OverflowError,
    UnicodeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
)


class ConnectOptions(NamedTuple):
    """What ``open`` needs beside the URL; times in seconds."""

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    tls: TlsTable | None = None
    autocommit: bool = False


class SqlDialect:
    """How rambla_py works with one kind of database, for a URL.

    The base class works for any database that SQLAlchemy has a dialect for: it opens connections with the
    DBAPI module, maps errors by the classes of the DBAPI, and recognises a lost connection by SQLAlchemy's
    ``is_disconnect``. A dialect of your own overrides what it knows better. Announce it under the entry
    point group ``rambla.sql_dialects``, pass it to ``register_dialect``, or name it ``module:Class`` in the
    URL's place of the database: ``SqlBackend("my_package.dialect:MyDialect", database="shop")``.

    ``name`` is the name in URLs, ``driver`` SQLAlchemy's name of the dialect and the driver; with
    ``async_driver`` there is an ``AsyncSqlBackend``. ``default_port`` is None for a database in the process.
    """

    name: ClassVar[str] = ""
    driver: ClassVar[str] = ""
    async_driver: ClassVar[str] = ""
    default_port: ClassVar[int | None] = None
    charset_parameter: ClassVar[str] = ""
    """The URL's parameter for ``charset``; empty if the database has none."""
    has_tls: ClassVar[bool] = False
    has_savepoints: ClassVar[bool] = True
    in_process: ClassVar[bool] = False
    """Whether the database runs in this process, so that no connection can be lost while it is idle."""
    drains_streams: ClassVar[bool] = False
    """Whether rows of a stream block the connection, and closing a stream reads what is left of them."""

    syntax: ClassVar[Syntax] = Syntax()
    placeholder: ClassVar[str] = ""
    """The driver's placeholder, ``?`` or ``%s``; empty: as SQLAlchemy says."""
    types: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    """Types by name, beside or instead of those of ``TypeMap``."""
    plain_types: ClassVar[frozenset[type]] = frozenset({str, int, float, bool, type(None)})
    """Exact types that the driver takes unchanged from the ``sql`` handler."""
    max_placeholders: ClassVar[int] = 999

    def __init__(self, url: sqlalchemy.URL) -> None:
        self.url = url
        self.alchemy: Any = url.get_dialect()()
        """SQLAlchemy's dialect."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.where}>"

    # -- the URL ------------------------------------------------------------------------------------

    def check_url(self) -> None:
        """Raise ``ValueError`` if the URL has what the driver does not take; quote nothing but names."""

    @property
    def where(self) -> str:
        """The database, for errors and logs, without credentials."""
        url = self.url
        host = (
            f"{url.host}{f':{port}' if (port := url.port or self.default_port) else ''}" if url.host else ""
        )
        return f"{self.url.get_backend_name()} at {host or 'localhost'}/{url.database or ''}"

    @property
    def in_memory(self) -> bool:
        """Whether the database ends with its connection, so that there can be only one."""
        return False

    @property
    def crosses_forks(self) -> bool:
        """Whether a forked child may inherit an open connection, as long as it does not use it."""
        return True

    @property
    def is_missing(self) -> bool:
        """Whether the database is a file that does not exist, and that ``open`` would create."""
        return False

    # -- connections --------------------------------------------------------------------------------

    def open(self, options: ConnectOptions) -> Any:
        """Open a connection of the driver; raise what the driver raises."""
        arguments, named = self.arguments()
        return self._dbapi.connect(*arguments, **named)

    async def open_async(self, options: ConnectOptions) -> Any:
        """Open a connection of the asyncio driver, for ``async_driver``."""
        raise NotImplementedError(f"{type(self).__name__} has no open_async")

    def ping(self, connection: Any) -> None:
        """Run a query that always succeeds; raise what the driver raises."""
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        with suppress(Exception):  # the driver may be in autocommit
            connection.rollback()

    def prepare_nothing(self, connection: Any) -> None:
        """Let a connection prepare no statement in the server by itself."""

    def write_ahead(self, connection: Any) -> None:
        """Let others read while a connection writes, where a database does not always; raise ``SqlError``."""

    def bound_waits(self, connection: Any, *, bounded: bool) -> None:
        """Let an idle connection wait for locks for about half a second, or as long as at first."""

    @contextmanager
    def short_waits(self, connection: Any) -> Iterator[None]:
        """Wait for locks as briefly as possible: a context entered in a transaction, left after its end.

        An error that the connection raises for such a wait is a ``SqlUnavailableError`` with ``waited``.
        """
        yield

    def interrupt(self, connection: Any) -> None:
        """Cancel what another thread waits for on a connection that is to be closed; never raise."""

    def abandon(self, cursor: Any) -> None:
        """Forget the unread rows of a stream, whose connection is closed next."""

    def arguments(self, url: sqlalchemy.URL | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the driver's ``connect`` for the URL."""
        arguments, named = self.alchemy.create_connect_args(url or self.url)
        return list(arguments), dict(named)

    # -- errors -------------------------------------------------------------------------------------

    def map_error(self, error: BaseException) -> SqlError:
        """Return the ``SqlError`` for a driver's error, with no value of a row in its text."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if self._is_dbapi(error):
            code = _code(error)
            kind = _BY_SQLSTATE.get(code[:2]) if len(code) == _SQLSTATE else None
            kind = kind or next((ours for name, ours in _BY_CLASS.items() if name in kinds), SqlError)
            if self._is_disconnect(error):
                kind = SqlConnectionLostError
            # Of a row, the driver's text may quote values.
            about_row = kind in (SqlIntegrityError, SqlDataError)
            return kind(type(error).__name__ if about_row else one_line(error), code=code)
        return conversion_error(error)

    def map_connect_error(self, error: BaseException) -> SqlConnectionLostError:
        """Return the error for a failed ``open``; without the password, and without values of the URL."""
        text = one_line(error)
        if self.url.password:
            text = text.replace(str(self.url.password), "***")
        return SqlConnectionLostError(f"cannot connect to {self.where}: {text}")

    def is_lost(self, error: SqlError) -> bool:
        """Return whether the connection that raised an error cannot be used any more."""
        if isinstance(error, SqlUnavailableError):
            return error.ends_session
        return isinstance(error, SqlConnectionLostError) and not isinstance(error, SqlPermissionError)

    # -- transactions -------------------------------------------------------------------------------

    def begin(
        self, connection: sqlalchemy.Connection, *, writes: bool, sleep: Callable[[float], Any]
    ) -> None:
        """Begin a transaction where the driver does not do it by itself; ``sleep`` waits, for a lock."""

    def has_ended(self, connection: Any, error: SqlError) -> bool:
        """Return whether a statement's error has ended its transaction; ``connection`` is the driver's."""
        return False

    # -- SQL ----------------------------------------------------------------------------------------

    def check_values(self, values: Any) -> None:
        """Raise ``SqlDataError`` for values that the database would store as other ones."""

    def quote(self, name: str) -> str:
        """Return a name as SQL quotes it."""
        return str(self.alchemy.identifier_preparer.quote_identifier(name))

    def quote_column(self, name: str) -> str:
        """Return the name of a column in RETURNING; unknown names must be errors of the database."""
        return str(self.alchemy.identifier_preparer.quote(name))

    def upsert(self, names: Sequence[str], key: str) -> str:
        """Return the end of an INSERT that replaces the row with the same key.

        Raises ``ValueError`` if the database has no such statement.
        """
        raise ValueError(f"{self.name} has no upsert that is known; set upsert = false")

    def upsert_probe(self, table: str, names: Sequence[str], key: str) -> str:
        """Return a statement that writes nothing, and fails or returns no row if the key is not unique."""
        raise ValueError(f"{self.name} has no upsert that is known; set upsert = false")

    def is_missing_key(self, error: SqlError) -> bool:
        """Return whether the probe failed because the key is not unique, and not for another reason."""
        return False

    def writer(
        self, connection: Any, statements: Statements, names: Sequence[str], *, copy: bool, upsert: str | None
    ) -> BulkWriter:
        """Return what writes the rows of the ``sql`` handler, over a connection in autocommit.

        ``copy`` is the handler's option, ``upsert`` the name of the key column, or None.
        """
        return DbapiWriter(connection, statements, self.map_error)

    def row_limit(self, connection: Any) -> int:
        """Return the size in bytes over which a row is refused; 0 if it is not known."""
        return 0

    # -- types --------------------------------------------------------------------------------------

    def column_type(self, kind: Any) -> Any:
        """Return the type that ``create_table`` uses for a type of SQLAlchemy."""
        return kind

    def id_type(self, kind: Any, alchemy: Any) -> Any:
        """Return the type that ``create_table`` uses for ids, which must compare byte by byte.

        ``alchemy`` is SQLAlchemy's dialect, connected: it has the server's version.
        """
        return self.column_type(kind)

    def index_length(self, kind: Any) -> int | None:
        """Return how many characters of a column of a type an index holds; None for all of them."""
        return None

    def column_form(self, kind: Any) -> ColumnForm | None:
        """Return how the ``sql`` handler prepares values for a column of a type of SQLAlchemy.

        None: as they are. The database must not round or cut what comes out.
        """
        return form_of(kind)

    def adapt_time(self, value: datetime.datetime, *, naive: bool) -> Any:
        """Return a time as the driver gets it; ``naive``: the column holds no zone. Never drop a zone."""
        if value.tzinfo is not None and naive:
            return value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value

    # -- inside -------------------------------------------------------------------------------------

    @property
    def _dbapi(self) -> Any:
        return type(self.alchemy).import_dbapi()

    def _is_dbapi(self, error: BaseException) -> bool:
        return isinstance(error, self._dbapi.Error)

    def _is_disconnect(self, error: BaseException) -> bool:
        self.alchemy.dbapi = self._dbapi
        return bool(self.alchemy.is_disconnect(error, None, None))


def conversion_error(error: BaseException) -> SqlError:
    """Return the error for one that is not the driver's: a value, the network, or anything else."""
    if isinstance(error, OSError):
        return SqlConnectionLostError(one_line(error))
    if isinstance(error, _CONVERSIONS):
        # Most texts quote the value; the reason of a codec does not.
        reason = getattr(error, "reason", None) if isinstance(error, UnicodeError) else None
        return SqlDataError(f"a value cannot be converted ({reason or type(error).__name__})")
    return SqlError(f"{type(error).__name__}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _code(error: BaseException) -> str:
    for name in ("sqlstate", "pgcode"):
        if code := getattr(error, name, None):
            return str(code)
    first = error.args[0] if error.args else None
    return str(first) if isinstance(first, int) else ""
