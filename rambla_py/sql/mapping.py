"""This module maps what the drivers raise to the errors of ``rambla_py.sql``."""

from __future__ import annotations

import re
import sqlite3
import ssl
import struct

import psycopg
import pymysql.err

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
)

__all__ = ["connect_error", "is_driver_error", "sql_error"]

_Kind = type[SqlError]

# What the drivers' own conversion of values raises: an int over 64 bits, a lone surrogate, a year 0.
_CONVERSIONS = (OverflowError, UnicodeError, ValueError, TypeError, struct.error)


def is_driver_error(error: BaseException) -> bool:
    """Say whether an error comes from one of the three drivers."""
    return isinstance(error, sqlite3.Error | psycopg.Error | pymysql.err.MySQLError)


def sql_error(error: BaseException) -> SqlError:
    """Return the error of ours that a driver's error stands for; the caller keeps the cause.

    >>> type(sql_error(pymysql.err.OperationalError(1213, "Deadlock found"))).__name__
    'SqlConflictError'
    """
    if isinstance(error, SqlError):
        return error
    if isinstance(error, psycopg.Error):
        return _postgresql(error)
    if isinstance(error, pymysql.err.MySQLError):
        return _mysql(error)
    if isinstance(error, sqlite3.Error):
        return _sqlite(error)
    if isinstance(error, OSError):
        return SqlConnectionLostError(_line(error))
    if isinstance(error, _CONVERSIONS):
        return SqlDataError(f"a value cannot be sent: {_line(error)}")
    return SqlError(f"{type(error).__name__}: {_line(error)}")


def connect_error(error: BaseException, where: str) -> SqlConnectionLostError:
    """Return the error that a failed connect stands for; ``where`` names the server without credentials."""
    kind = SqlAccessError if _is_about_access(error) else SqlConnectionLostError
    code = getattr(error, "sqlstate", None) or ""
    return kind(f"cannot connect to {where}: {_line(error)}", code=code)


# -- PostgreSQL: SQLSTATE, by class where a class says enough ---------------------------------------

_PG_CODES: dict[str, _Kind] = {
    "25P03": SqlConnectionLostError,  # idle in a transaction for too long
    "25P04": SqlConnectionLostError,  # a transaction that took too long
    "25006": SqlConnectionLostError,  # read-only: a standby; a new connection may reach the primary
    "42501": SqlPermissionError,
    "53300": SqlConnectionLostError,  # too many connections
    "54000": SqlTooLargeError,
    "55P03": SqlConflictError,
    "57014": SqlBusyError,
    "57P01": SqlConnectionLostError,
    "57P02": SqlConnectionLostError,
    "57P03": SqlConnectionLostError,
    "57P04": SqlConnectionLostError,
    "57P05": SqlConnectionLostError,
    "22P05": SqlDataError,
    "XX000": SqlError,  # what extensions raise, PostGIS over a geometry for one: whose fault is not known
}
_PG_CLASSES: dict[str, _Kind] = {
    "08": SqlConnectionLostError,
    "0A": SqlStatementError,
    "20": SqlIntegrityError,
    "21": SqlIntegrityError,  # two ids of a batch that the column takes for one
    "22": SqlDataError,
    "23": SqlIntegrityError,
    "25": SqlStatementError,
    "26": SqlConnectionLostError,  # a prepared statement is gone: another session behind a pooler
    "27": SqlIntegrityError,
    "28": SqlAccessError,
    "2F": SqlIntegrityError,
    "38": SqlIntegrityError,
    "39": SqlIntegrityError,
    "3D": SqlConnectionLostError,
    "3F": SqlStatementError,
    "40": SqlConflictError,
    "42": SqlStatementError,
    "44": SqlIntegrityError,
    # Raised by a trigger or a function, as those of 20, 27, 2F, 38 and 39: the row is refused.
    "P0": SqlIntegrityError,
    "53": SqlBusyError,
    "54": SqlDataError,
    "55": SqlConflictError,
    "57": SqlBusyError,
    "58": SqlBusyError,
    "72": SqlConflictError,
    "HV": SqlBusyError,  # a foreign table's server
    "XX": SqlBusyError,
}


_POLICY_CHECK = "ExecWithCheckOptions"
"""Who says inside of PostgreSQL that a policy refuses a row: with the code of a right that is missing."""


def _postgresql(error: psycopg.Error) -> SqlError:
    code = error.sqlstate or ""
    text = error.diag.message_primary or _line(error)
    if error.diag.message_detail:
        text += f": {' '.join(error.diag.message_detail.split())}"
    if code == "42501" and error.diag.source_function == _POLICY_CHECK:
        return SqlIntegrityError(text, code=code)
    kind = _PG_CODES.get(code) or _PG_CLASSES.get(code[:2]) or _without_state(error)
    if kind is SqlTooLargeError or "invalid memory alloc request size" in text:
        return _too_large(text, code)
    return kind(text, code=code)


# What is kept in one piece: a field, a row on its way.
_PG_PIECE = (1 << 30) - 1
_PG_SIZES = re.compile(r"(?:size|requires) (?P<size>\d+).*? maximum (?:size )?(?:is )?(?P<limit>\d+)")
_PG_LIMIT = re.compile(r"(?:cannot exceed|exceeds the maximum of) (?P<limit>\d+) bytes")
_PG_REQUEST = re.compile(r"request size (?P<size>\d+)")


def _too_large(text: str, code: str) -> SqlTooLargeError:
    """Return the error with the sizes that the server told: of a row, a field, or an entry of an index."""
    size = limit = 0
    if found := _PG_SIZES.search(text):
        size, limit = int(found["size"]), int(found["limit"])
    elif found := _PG_LIMIT.search(text):
        limit = int(found["limit"])
    elif found := _PG_REQUEST.search(text):
        size, limit = int(found["size"]), _PG_PIECE
        text += f"; the limit is {limit}"
    return SqlTooLargeError(text, code=code, size=size, limit=limit)


def _without_state(error: psycopg.Error) -> _Kind:
    """Return the kind of an error that no server sent, or that is of a class of its own."""
    if error.sqlstate:
        try:
            psycopg.errors.lookup(error.sqlstate)
        except KeyError:
            return SqlIntegrityError  # of a trigger's own
        return SqlStatementError
    if isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError):
        return SqlDataError
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return SqlConnectionLostError
    return SqlError


# -- MySQL and MariaDB: error numbers ---------------------------------------------------------------

_MYSQL_CODES: dict[_Kind, tuple[int, ...]] = {
    SqlIntegrityError: (
        1022, 1048, 1062, 1169, 1216, 1217, 1364, 1369, 1451, 1452, 1526, 1557, 1586, 1644, 1748, 1761,
        1762, 3819, 4025,
    ),
    SqlDataError: (
        1118, 1230, 1264, 1265, 1292, 1365, 1366, 1367, 1406, 1411, 1416, 1439, 1441, 1690, 3140, 3141, 4038,
        4078,
    ),
    SqlTooLargeError: (1153, 1301),
    SqlStatementError: (1046, 1049, 1051, 1054, 1064, 1065, 1109, 1110, 1136, 1146, 1149, 1305, 1336),
    SqlPermissionError: (1142, 1143, 1227, 1370),
    SqlConflictError: (1020, 1205, 1213, 1614, 3572),
    SqlBusyError: (1021, 1030, 1037, 1038, 1041, 1114, 1206, 1317, 1436, 1969, 3024),
    SqlAccessError: (1044, 1045, 1130, 1131, 1251, 1275, 1524, 1698, 3118, 3159, 4151),
    SqlConnectionLostError: (
        0, 1040, 1053, 1077, 1079, 1129, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1290, 1792, 1836,
        1927, 2000, 2002, 2003, 2004, 2005, 2006, 2012, 2013, 2014, 2026, 2027, 2055, 4031,
    ),
}  # fmt: skip
_MYSQL_KINDS = {number: kind for kind, numbers in _MYSQL_CODES.items() for number in numbers}
# A number that is not listed may be a trigger's own: of a row, or of all of them.
_MYSQL_CLASSES: dict[type[Exception], _Kind] = {
    pymysql.err.IntegrityError: SqlIntegrityError,
    pymysql.err.DataError: SqlDataError,
    pymysql.err.InterfaceError: SqlConnectionLostError,
    pymysql.err.NotSupportedError: SqlStatementError,
    pymysql.err.ProgrammingError: SqlStatementError,
    pymysql.err.InternalError: SqlBusyError,
    pymysql.err.OperationalError: SqlError,
}


def _mysql(error: pymysql.err.MySQLError) -> SqlError:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if number is None:
        # Raised by the driver itself, over a value: "nan can not be used with MySQL".
        return SqlDataError(_line(error))
    kind = _MYSQL_KINDS.get(number) or next(
        (kind for driver, kind in _MYSQL_CLASSES.items() if isinstance(error, driver)), SqlError
    )
    text = str(error.args[1]) if len(error.args) > 1 and error.args[1] else "the connection is closed"
    return kind(text, code=str(number) if number else "")


# -- SQLite: result codes ---------------------------------------------------------------------------

_SQLITE_CODES: dict[int, _Kind] = {
    sqlite3.SQLITE_PERM: SqlPermissionError,
    sqlite3.SQLITE_AUTH: SqlPermissionError,
    # A file that somebody moved away: connecting finds what is there now.
    sqlite3.SQLITE_READONLY_DBMOVED: SqlConnectionLostError,
    sqlite3.SQLITE_READONLY: SqlAccessError,  # the rights of the file, or of its disk
    sqlite3.SQLITE_BUSY: SqlConflictError,
    sqlite3.SQLITE_LOCKED: SqlConflictError,
    sqlite3.SQLITE_PROTOCOL: SqlConflictError,
    sqlite3.SQLITE_SCHEMA: SqlConflictError,
    sqlite3.SQLITE_ABORT: SqlConflictError,
    sqlite3.SQLITE_INTERRUPT: SqlBusyError,
    sqlite3.SQLITE_NOMEM: SqlBusyError,
    sqlite3.SQLITE_IOERR: SqlBusyError,
    sqlite3.SQLITE_FULL: SqlBusyError,
    sqlite3.SQLITE_CANTOPEN: SqlConnectionLostError,
    sqlite3.SQLITE_CORRUPT: SqlConnectionLostError,
    sqlite3.SQLITE_NOTADB: SqlConnectionLostError,
    sqlite3.SQLITE_TOOBIG: SqlTooLargeError,
    sqlite3.SQLITE_CONSTRAINT: SqlIntegrityError,
    sqlite3.SQLITE_MISMATCH: SqlDataError,
    sqlite3.SQLITE_RANGE: SqlDataError,
}


def _sqlite(error: sqlite3.Error) -> SqlError:
    number = getattr(error, "sqlite_errorcode", None)
    text = _line(error)
    if number is not None:
        kind = _SQLITE_CODES.get(number) or _SQLITE_CODES.get(number & 0xFF, SqlStatementError)
        return kind(text, code=getattr(error, "sqlite_errorname", str(number)))
    if "closed database" in text:
        return SqlConnectionLostError(text)
    if "too big" in text:
        return SqlTooLargeError(text)
    return SqlDataError(text) if "binding" in text.lower() else SqlStatementError(text)


# -- connecting -------------------------------------------------------------------------------------

# Until a connection stands libpq gives no SQLSTATE, only what the server said.
_ACCESS_WORDS = (
    "authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "certificate",
    "is not permitted to log in",
    "ssl is required",
)


def _is_about_access(error: BaseException) -> bool:
    if isinstance(error, pymysql.err.MySQLError):
        reason = getattr(error, "original_exception", None)
        return isinstance(reason, ssl.SSLError) or isinstance(sql_error(error), SqlAccessError)
    if isinstance(error, psycopg.Error):
        text = str(error).lower()
        unknown_role = 'role "' in text and "does not exist" in text
        return (error.sqlstate or "").startswith("28") or unknown_role or _mentions(text, _ACCESS_WORDS)
    return isinstance(error, ssl.SSLError)


def _mentions(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def _line(error: BaseException) -> str:
    """Return the text of an error in one line."""
    text = str(error.args[1]) if _is_numbered(error) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _is_numbered(error: BaseException) -> bool:
    return isinstance(error, pymysql.err.MySQLError) and len(error.args) > 1
