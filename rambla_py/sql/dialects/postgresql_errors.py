"""Errors of PostgreSQL mapped to those of ``rambla_py.sql``."""

from __future__ import annotations

import re

import psycopg

from rambla_py.sql.dialect import conversion_error, one_line
from rambla_py.sql.dialects.postgresql_connection import PostgresTimeoutError
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

__all__ = ["is_about_access", "postgres_error"]

_Kind = type[SqlError]

_PG_CODES: dict[str, _Kind] = {
    "25P03": SqlConnectionLostError,  # idle in a transaction for too long
    "25P04": SqlConnectionLostError,  # a transaction that took too long
    "25006": SqlUnavailableError,  # read-only: a standby
    # A pooler gave the session to another client: no such prepared statement, or one of the same name.
    "26000": SqlConnectionLostError,
    "42P05": SqlConnectionLostError,
    "42501": SqlPermissionError,
    "54000": SqlTooLargeError,
    "55P03": SqlUnavailableError,  # a lock
    "57014": SqlBusyError,
    "57P01": SqlConnectionLostError,
    "57P02": SqlConnectionLostError,
    "57P03": SqlConnectionLostError,
    "57P04": SqlConnectionLostError,
    "57P05": SqlConnectionLostError,
    "XX000": SqlError,  # raised by extensions, such as PostGIS: of a row, or of all of them
}
_PG_CLASSES: dict[str, _Kind] = {
    "08": SqlConnectionLostError,
    "0A": SqlStatementError,
    "20": SqlIntegrityError,
    "21": SqlIntegrityError,  # two ids of a batch that the column takes for one
    "22": SqlDataError,
    "23": SqlIntegrityError,
    "25": SqlStatementError,
    "26": SqlConnectionLostError,
    "27": SqlIntegrityError,
    "28": SqlAccessError,
    "2F": SqlIntegrityError,
    "38": SqlIntegrityError,
    "39": SqlIntegrityError,
    "3D": SqlAccessError,
    "3F": SqlStatementError,
    "40": SqlConflictError,
    "42": SqlStatementError,
    "44": SqlIntegrityError,
    # Raised by a trigger or a function, as 20, 27, 2F, 38 and 39 are: the row is refused.
    "P0": SqlIntegrityError,
    "53": SqlUnavailableError,  # disk full, out of memory, too many connections
    "54": SqlDataError,
    "55": SqlConflictError,
    "57": SqlBusyError,
    "58": SqlUnavailableError,  # I/O errors
    "72": SqlConflictError,
    "HV": SqlBusyError,  # a foreign table's server
    "XX": SqlBusyError,
}


_POLICY_CHECK = "ExecWithCheckOptions"
"""The function of PostgreSQL that refuses a row by a policy; its code is that of a missing permission."""


def postgres_error(error: BaseException) -> SqlError:
    """Return the error for one of psycopg, or of a conversion."""
    if isinstance(error, PostgresTimeoutError):
        return SqlUnavailableError(one_line(error), waited=True)
    if not isinstance(error, psycopg.Error):
        return conversion_error(error)
    code = error.sqlstate or ""
    text = _text(error)
    if code == "42501" and error.diag.source_function == _POLICY_CHECK:
        return SqlIntegrityError(text, code=code)
    kind = _PG_CODES.get(code) or _PG_CLASSES.get(code[:2]) or _without_state(error)
    message = error.diag.message_primary or str(error)
    if kind is SqlTooLargeError or "invalid memory alloc request size" in message:
        return _too_large(" ".join(message.split()), code)
    if issubclass(kind, SqlUnavailableError):
        return kind(text, code=code, ends_session=code == "25006", waited=code == "55P03")
    return kind(text, code=code)


# The largest allocation: a field, or a row on its way.
_PG_PIECE = (1 << 30) - 1
_PG_SIZES = re.compile(r"(?:size|requires) (?P<size>\d+).*? maximum (?:size )?(?:is )?(?P<limit>\d+)")
_PG_LIMIT = re.compile(r"(?:cannot exceed|exceeds the maximum of) (?P<limit>\d+) bytes")
_PG_REQUEST = re.compile(r"request size (?P<size>\d+)")


def _too_large(text: str, code: str) -> SqlTooLargeError:
    """Return the error with the sizes in the message: of a row, a field, or an entry of an index."""
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
    """Return the kind of an error without a SQLSTATE, or with one that PostgreSQL does not define."""
    if error.sqlstate:
        try:
            psycopg.errors.lookup(error.sqlstate)
        except KeyError:
            return SqlIntegrityError  # raised by a trigger
        return SqlStatementError
    if isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError):
        return SqlDataError
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return SqlConnectionLostError
    return SqlError


# -- texts ---------------------------------------------------------------------------------------

# Classes whose messages name only objects of the database and the server's state.
_NAMES_ONLY = frozenset(
    {"", "08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
_QUOTED = re.compile(r'".*"', re.DOTALL)
_COPY_COLUMN = re.compile(r"COPY .+?, line \d+, column (?P<column>[^:\n]+)")


def _text(error: psycopg.Error) -> str:
    """Return the message of a PostgreSQL error, or, if it may quote values, what it is about."""
    diag, code = error.diag, error.sqlstate or ""
    message = " ".join((diag.message_primary or str(error)).split()) or type(error).__name__
    if code in ("26000", "42P05"):
        return f"{message}; behind a transaction pooler, set copy = false"
    if code[:2] in _NAMES_ONLY:
        return message
    text = _QUOTED.sub('"..."', message) if code[:2] == "22" else _spaced(type(error).__name__)
    copied = _COPY_COLUMN.search(diag.context or "")
    names = {
        "constraint": diag.constraint_name,
        "column": diag.column_name or (copied and copied["column"].strip('"')),
        "table": diag.table_name,
        "type": diag.datatype_name,
    }
    named = ", ".join(f"{what} {name!r}" for what, name in names.items() if name)
    return f"{text}: {named}" if named else text


def _spaced(name: str) -> str:
    """Return the name of a class as words.

    >>> _spaced("NotNullViolation")
    'not null violation'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).rstrip("_").lower()


# -- connecting ----------------------------------------------------------------------------------

# While connecting, libpq gives no SQLSTATE, only the server's message.
_ACCESS_WORDS = (
    "authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "certificate",
    "is not permitted to log in",
    "ssl is required",
    "does not support ssl",
    "invalid connection option",
)


def is_about_access(error: BaseException) -> bool:
    """Return whether an operator must act on a failed connect."""
    text = str(error).lower()
    missing = ('role "' in text or 'database "' in text) and "does not exist" in text
    refused = (getattr(error, "sqlstate", None) or "").startswith("28")
    return refused or missing or any(words in text for words in _ACCESS_WORDS)
