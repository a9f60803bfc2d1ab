"""Errors of SQL databases, drawn as a tree.

Each is also one of the errors of ``rambla_py.errors``, which decides how a handler's delivery continues::

    SqlError (DeliveryError)          .code   SQLSTATE, error number or name of the driver
    ├── SqlIntegrityError             a constraint refuses the row          (PermanentError)
    ├── SqlDataError                  a value does not fit its column       (PermanentError)
    │   ├── SqlTooLargeError          a row is over the server's limit      (PayloadTooLargeError)
    │   └── UnsupportedTypeError      the database has no type for the value
    ├── SqlStatementError             syntax, or no such table or column    (PermanentError)
    ├── SqlOptionError                a URL, an option, an isolation level  (OptionError, ValueError)
    ├── SqlConflictError              deadlock, serialization failure       (RejectedError)
    ├── SqlBusyError                  the server gave up the statement      (RejectedError)
    ├── SqlUnavailableError           it cannot be written to now           (UnavailableError)
    ├── SqlConnectionLostError        nothing was applied                   (ConnectionLostError)
    │   └── SqlAccessError            an operator must act                  (AccessError)
    │       └── SqlPermissionError    the user may not do this to the table
    └── SqlUnknownOutcomeError        lost during the commit                (UnknownOutcomeError)

The texts name code, table, column and constraint, and no values: those are in the driver's error, which is
the ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Iterable

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    OptionError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)

__all__ = [
    "SqlAccessError",
    "SqlBusyError",
    "SqlConflictError",
    "SqlConnectionLostError",
    "SqlDataError",
    "SqlError",
    "SqlIntegrityError",
    "SqlOptionError",
    "SqlPermissionError",
    "SqlStatementError",
    "SqlTooLargeError",
    "SqlUnavailableError",
    "SqlUnknownOutcomeError",
    "UnsupportedTypeError",
]


class SqlError(DeliveryError):
    """An error of a database or its driver; ``code`` is the driver's code, or empty."""

    def __init__(self, text: str, *, code: str = "") -> None:
        self.code = code
        super().__init__(f"{text} ({code})" if code else text)


class SqlIntegrityError(SqlError, PermanentError):
    """A constraint refuses the row: unique, not null, foreign key, check."""


class SqlDataError(SqlError, PermanentError):
    """A value does not fit its column, or cannot be sent at all."""


class SqlTooLargeError(SqlDataError, PayloadTooLargeError):
    """A row is larger than the server accepts; ``size`` and ``limit`` are 0 where they are not known."""

    def __init__(self, text: str, *, code: str = "", size: int = 0, limit: int = 0) -> None:
        self.code, self.size, self.limit = code, size, limit
        DeliveryError.__init__(self, f"{text} ({code})" if code else text)


class UnsupportedTypeError(SqlDataError):
    """The database has no type for such values, or none of this name."""


class SqlStatementError(SqlError, PermanentError):
    """The statement itself is wrong: its syntax, or a table or column that does not exist."""


class SqlOptionError(SqlError, PermanentError, OptionError, ValueError):
    """A URL, an option or an isolation level that cannot be used."""

    def __init__(self, option: str, reason: str, *, known: Iterable[str] = ()) -> None:
        self.code = ""
        OptionError.__init__(self, option, reason, known=known)


class SqlConflictError(SqlError, RejectedError):
    """Another transaction was in the way: a deadlock, or a serialization failure. Try again."""


class SqlBusyError(SqlError, RejectedError):
    """The server gave up the statement. Try again."""


class SqlUnavailableError(SqlError, UnavailableError):
    """The database cannot be written to now: read-only, no space, too many connections, or a lock.

    ``ends_session``: another connection may reach a server that can be written to, or this one is closed.
    ``waited``: the statement took too long, for a lock it may be, and the server has cancelled it.
    """

    def __init__(
        self, text: str, *, code: str = "", ends_session: bool = False, waited: bool = False
    ) -> None:
        self.code, self.ends_session, self.waited = code, ends_session, waited
        UnavailableError.__init__(self, f"{text} ({code})" if code else text)


class SqlConnectionLostError(SqlError, ConnectionLostError):
    """The connection was lost, and nothing of the transaction was applied."""


class SqlAccessError(SqlConnectionLostError, AccessError):
    """An operator must act: credentials, certificate, database, table or permission."""


class SqlPermissionError(SqlAccessError):
    """The user may not do this to this table."""


class SqlUnknownOutcomeError(SqlError, UnknownOutcomeError):
    """The connection was lost during the commit; whether it was applied is unknown."""
