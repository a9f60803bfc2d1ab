"""Access to SQL databases: statements, transactions, types, errors, dialects."""

from rambla_py._internal.tls import TlsTable
from rambla_py.sql.async_backend import AsyncRowStream, AsyncSqlBackend, AsyncTransaction
from rambla_py.sql.backend import SqlBackend
from rambla_py.sql.bulk import BulkWriter, DbapiWriter, Statements, TransactionWriter
from rambla_py.sql.dialect import ConnectOptions, SqlDialect
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlBusyError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlIntegrityError,
    SqlOptionError,
    SqlPermissionError,
    SqlStatementError,
    SqlTooLargeError,
    SqlUnavailableError,
    SqlUnknownOutcomeError,
    UnsupportedTypeError,
)
from rambla_py.sql.placeholders import Syntax
from rambla_py.sql.registry import FallbackDialect, dialect_names, find_dialect, register_dialect
from rambla_py.sql.result import QueryResult
from rambla_py.sql.stream import RowStream
from rambla_py.sql.transactions import Transaction
from rambla_py.sql.types import Converter, TypeMap

__all__ = [
    "AsyncRowStream",
    "AsyncSqlBackend",
    "AsyncTransaction",
    "BulkWriter",
    "ConnectOptions",
    "Converter",
    "DbapiWriter",
    "FallbackDialect",
    "QueryResult",
    "RowStream",
    "SqlAccessError",
    "SqlBackend",
    "SqlBusyError",
    "SqlConflictError",
    "SqlConnectionLostError",
    "SqlDataError",
    "SqlDialect",
    "SqlError",
    "SqlIntegrityError",
    "SqlOptionError",
    "SqlPermissionError",
    "SqlStatementError",
    "SqlTooLargeError",
    "SqlUnavailableError",
    "SqlUnknownOutcomeError",
    "Statements",
    "Syntax",
    "TlsTable",
    "Transaction",
    "TransactionWriter",
    "TypeMap",
    "UnsupportedTypeError",
    "dialect_names",
    "find_dialect",
    "register_dialect",
]
