"""Errors of the drivers become errors of ours."""

from __future__ import annotations

import sqlite3
import ssl

import psycopg
import pymysql
import pytest

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
)
from rambla_py.sql import errors
from rambla_py.sql.database import Database
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
    SqlTooLargeError,
    SqlUnavailableError,
)

DATABASES = [Database(f"{kind}://db.internal/shop") for kind in ("postgresql", "mysql")] + [
    Database("sqlite://")
]
MODULES = {"psycopg": 0, "rambla_py": 0, "pymysql": 1}


def database_of(error: BaseException) -> Database:
    """Return a database whose driver raises such errors."""
    module = type(error).__module__.partition(".")[0]
    return DATABASES[MODULES.get(module, 1 if isinstance(error, ssl.SSLError) else 2)]


def sql_error(error: BaseException) -> SqlError:
    return database_of(error).map_error(error)


def of_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("text")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"  # type: ignore[attr-defined]
    return error


def of_postgres(code: str) -> psycopg.Error:
    error = psycopg.DatabaseError("text")
    error.sqlstate = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.UniqueViolation(), SqlIntegrityError),
        (psycopg.errors.NotNullViolation(), SqlIntegrityError),
        (psycopg.errors.RaiseException(), SqlIntegrityError),
        (psycopg.errors.StringDataRightTruncation(), SqlDataError),
        (psycopg.errors.InvalidTextRepresentation(), SqlDataError),
        (psycopg.errors.ProgramLimitExceeded(), SqlTooLargeError),
        (psycopg.errors.SyntaxError(), SqlStatementError),
        (psycopg.errors.UndefinedTable(), SqlStatementError),
        (psycopg.errors.InsufficientPrivilege(), SqlPermissionError),
        (psycopg.errors.DeadlockDetected(), SqlConflictError),
        (psycopg.errors.SerializationFailure(), SqlConflictError),
        (psycopg.errors.LockNotAvailable(), SqlUnavailableError),
        (psycopg.errors.DiskFull(), SqlUnavailableError),
        (psycopg.errors.QueryCanceled(), SqlBusyError),
        (psycopg.errors.AdminShutdown(), SqlConnectionLostError),
        (psycopg.errors.TooManyConnections(), SqlUnavailableError),
        (psycopg.errors.ReadOnlySqlTransaction(), SqlUnavailableError),
        (psycopg.errors.IdleInTransactionSessionTimeout(), SqlConnectionLostError),
        (psycopg.errors.CardinalityViolation(), SqlIntegrityError),
        (psycopg.errors.InternalError_(), SqlError),
        (of_postgres("A0001"), SqlIntegrityError),
        (psycopg.errors.InvalidPassword(), SqlAccessError),
        (psycopg.OperationalError("server closed the connection"), SqlConnectionLostError),
        (psycopg.ProgrammingError("cannot adapt type"), SqlDataError),
        (pymysql.err.IntegrityError(1062, "Duplicate entry"), SqlIntegrityError),
        (pymysql.err.OperationalError(4025, "CONSTRAINT failed"), SqlIntegrityError),
        (pymysql.err.DataError(1406, "Data too long"), SqlDataError),
        (pymysql.err.ProgrammingError("nan can not be used with MySQL"), SqlDataError),
        (pymysql.err.OperationalError(1153, "packet bigger"), SqlTooLargeError),
        (pymysql.err.ProgrammingError(1064, "You have an error"), SqlStatementError),
        (pymysql.err.ProgrammingError(1146, "Table doesn't exist"), SqlStatementError),
        (pymysql.err.OperationalError(1142, "INSERT command denied"), SqlPermissionError),
        (pymysql.err.OperationalError(1213, "Deadlock found"), SqlConflictError),
        (pymysql.err.OperationalError(1205, "Lock wait timeout"), SqlUnavailableError),
        (pymysql.err.OperationalError(1020, "Record has changed"), SqlConflictError),
        (pymysql.err.OperationalError(1114, "The table is full"), SqlUnavailableError),
        (pymysql.err.OperationalError(1526, "no partition"), SqlIntegrityError),
        (pymysql.err.OperationalError(31001, "a trigger's own"), SqlError),
        (pymysql.err.OperationalError(2013, "Lost connection"), SqlConnectionLostError),
        (pymysql.err.InterfaceError(0, ""), SqlConnectionLostError),
        (pymysql.err.OperationalError(1045, "Access denied"), SqlAccessError),
        (of_sqlite(sqlite3.SQLITE_CONSTRAINT_UNIQUE), SqlIntegrityError),
        (of_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), SqlConflictError),
        (of_sqlite(sqlite3.SQLITE_FULL), SqlUnavailableError),
        (of_sqlite(sqlite3.SQLITE_TOOBIG), SqlTooLargeError),
        (of_sqlite(sqlite3.SQLITE_CANTOPEN), SqlConnectionLostError),
        (of_sqlite(sqlite3.SQLITE_NOTADB), SqlConnectionLostError),
        (of_sqlite(sqlite3.SQLITE_READONLY), SqlAccessError),
        (of_sqlite(sqlite3.SQLITE_READONLY_DBMOVED), SqlConnectionLostError),
        (of_sqlite(sqlite3.SQLITE_ERROR), SqlStatementError),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), SqlConnectionLostError),
        (sqlite3.ProgrammingError("Error binding parameter 1: type 'X' is not supported"), SqlDataError),
        (OverflowError("Python int too large"), SqlDataError),
        (BrokenPipeError("broken"), SqlConnectionLostError),
    ],
    ids=lambda given: given.__name__ if isinstance(given, type) else repr(given)[:40],
)
def test_each_code_has_its_error(error: Exception, kind: type[SqlError]) -> None:
    """What a driver raises says, by its code, whether to try again, and on which connection."""
    assert type(sql_error(error)) is kind


@pytest.mark.parametrize(
    ("answer", "size", "limit"),
    [
        ('index row size 2712 exceeds btree version 4 maximum 2704 for index "t_pkey"', 2712, 2704),
        ("index row requires 20016 bytes, maximum size is 8191", 20016, 8191),
        ("row is too big: size 8168, maximum size 8160", 8168, 8160),
        ("string too long: jsonb strings cannot exceed 268435455 bytes.", 0, 268435455),
        ("total size of jsonb object elements exceeds the maximum of 268435455 bytes", 0, 268435455),
        ("invalid memory alloc request size 1073741824", 1073741824, 1073741823),
        ("too many things", 0, 0),
    ],
)
def test_postgresql_tells_sizes(answer: str, size: int, limit: int) -> None:
    """Of what is too large, the sizes that the server tells are those of the error."""
    error = sql_error(psycopg.errors.ProgramLimitExceeded(answer))
    assert isinstance(error, SqlTooLargeError)
    assert isinstance(error, PayloadTooLargeError)
    assert (error.size, error.limit) == (size, limit)
    assert str(limit) in str(error) or not limit


@pytest.mark.parametrize("driver", [psycopg.Error, pymysql.err.MySQLError, sqlite3.Error])
def test_no_class_of_a_driver_leaks(driver: type[Exception]) -> None:
    """Every class of error that a driver has becomes one of ours."""
    found, todo = [], [driver]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        found.append(kind)
    assert len(found) > 5
    assert [kind for kind in found if not isinstance(sql_error(kind("text")), SqlError)] == []
    # And none ends as what nobody knows, but for the roots, which no driver raises, and XX000.
    vague = [kind.__name__ for kind in found if type(sql_error(kind("text"))) is SqlError]
    assert len(vague) <= 5, vague


def test_the_code_is_reported() -> None:
    """An error holds the driver's code, and its text ends with it."""
    error = sql_error(pymysql.err.OperationalError(1213, "Deadlock found"))
    assert (error.code, str(error)) == ("1213", "Deadlock found (1213)")
    assert sql_error(psycopg.errors.UniqueViolation()).code == "23505"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError('FATAL: password authentication failed for user "x"'), SqlAccessError),
        (psycopg.OperationalError('FATAL: role "x" does not exist'), SqlAccessError),
        (psycopg.OperationalError("SSL error: certificate verify failed"), SqlAccessError),
        (psycopg.OperationalError("Connection refused"), SqlConnectionLostError),
        (psycopg.OperationalError('FATAL: database "x" does not exist'), SqlAccessError),
        (pymysql.err.OperationalError(1045, "Access denied"), SqlAccessError),
        (pymysql.err.OperationalError(2003, "Can't connect"), SqlConnectionLostError),
        (ssl.SSLCertVerificationError("certificate verify failed"), SqlAccessError),
        (sqlite3.OperationalError("unable to open database file"), SqlConnectionLostError),
    ],
)
def test_connecting_fails_for_who_asks_or_for_where(error: Exception, kind: type[SqlError]) -> None:
    """Credentials and certificates are matters of access; the rest is a server that is not there."""
    database = database_of(error)
    mapped = database.dialect.map_connect_error(error)
    assert type(mapped) is kind
    assert str(mapped).startswith(f"cannot connect to {database.where}: ")


def test_each_error_hangs_in_both_trees() -> None:
    """Each is a ``SqlError`` and an error of rambla_py that says what becomes of a delivery."""
    roots = {
        SqlIntegrityError: PermanentError,
        SqlDataError: PermanentError,
        SqlStatementError: PermanentError,
        SqlConflictError: RejectedError,
        SqlBusyError: RejectedError,
        SqlConnectionLostError: ConnectionLostError,
        SqlAccessError: AccessError,
        SqlPermissionError: AccessError,
        SqlUnavailableError: UnavailableError,
    }
    for kind, root in roots.items():
        assert issubclass(kind, root)
        assert kind("text").retryable is root.retryable
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), SqlError)
        assert issubclass(getattr(errors, name), DeliveryError)
        assert name in (errors.__doc__ or "")
