"""This package speaks to SQLite, PostgreSQL, MySQL and MariaDB: statements, transactions, types, errors."""

from rambla_py.sql.backend import SqlBackend
from rambla_py.sql.database import SqlTls
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
    SqlUnknownOutcomeError,
    UnsupportedTypeError,
)
from rambla_py.sql.result import QueryResult
from rambla_py.sql.transactions import Transaction
from rambla_py.sql.types import Converter, TypeMap

__all__ = [
    "Converter",
    "QueryResult",
    "SqlAccessError",
    "SqlBackend",
    "SqlBusyError",
    "SqlConflictError",
    "SqlConnectionLostError",
    "SqlDataError",
    "SqlError",
    "SqlIntegrityError",
    "SqlPermissionError",
    "SqlStatementError",
    "SqlTls",
    "SqlTooLargeError",
    "SqlUnknownOutcomeError",
    "Transaction",
    "TypeMap",
    "UnsupportedTypeError",
]
