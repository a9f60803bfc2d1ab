"""This module draws the errors that a database gives cause for.

Each is also one of the errors of ``rambla_py.errors``, which is what a handler's delivery ends with::

    SqlError (DeliveryError)          .code   the driver's own: SQLSTATE, or a number
    ├── SqlIntegrityError             a constraint refuses the row         (PermanentError)
    ├── SqlDataError                  a value does not fit its column      (PermanentError)
    │   ├── SqlTooLargeError          a row is over the server's limit     (PayloadTooLargeError)
    │   └── UnsupportedTypeError      no type of the database holds the value
    ├── SqlStatementError             syntax, or no such table or column   (PermanentError)
    │   └── SqlPermissionError        the right to do this is missing
    ├── SqlConflictError              deadlock, serialization, lock: again (RejectedError)
    ├── SqlBusyError                  no room, no time, for now: again     (RejectedError)
    ├── SqlConnectionLostError        nothing of it was applied            (ConnectionLostError)
    │   └── SqlAccessError            credentials or certificate refused   (AccessError)
    └── SqlUnknownOutcomeError        lost while the commit was under way  (UnknownOutcomeError)
"""

from __future__ import annotations

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
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
    "SqlPermissionError",
    "SqlStatementError",
    "SqlTooLargeError",
    "SqlUnknownOutcomeError",
    "UnsupportedTypeError",
]


class SqlError(DeliveryError):
    """What a database, or its driver, said; ``code`` is the driver's own word for it, or empty."""

    def __init__(self, text: str, *, code: str = "") -> None:
        self.code = code
        super().__init__(f"{text} ({code})" if code else text)


class SqlIntegrityError(SqlError, PermanentError):
    """A constraint refuses the row: unique, not null, foreign key, check."""


class SqlDataError(SqlError, PermanentError):
    """A value does not fit its column, or cannot be sent at all."""


class SqlTooLargeError(SqlDataError, PayloadTooLargeError):
    """A row is larger than the server takes; ``size`` and ``limit`` are 0 where nobody told."""

    def __init__(self, text: str, *, code: str = "", size: int = 0, limit: int = 0) -> None:
        self.code, self.size, self.limit = code, size, limit
        DeliveryError.__init__(self, f"{text} ({code})" if code else text)


class UnsupportedTypeError(SqlDataError):
    """No type of this database holds such values, or no type has this name."""


class SqlStatementError(SqlError, PermanentError):
    """The statement itself is wrong: its syntax, or a table or column that is not there."""


class SqlPermissionError(SqlStatementError):
    """The user may not do this to this table."""


class SqlConflictError(SqlError, RejectedError):
    """Another transaction was in the way: a deadlock, a serialization failure, a lock. Try again."""


class SqlBusyError(SqlError, RejectedError):
    """The server has no room or no time for now. Try again."""


class SqlConnectionLostError(SqlError, ConnectionLostError):
    """The connection is gone, and nothing of what was under way was applied."""


class SqlAccessError(SqlConnectionLostError, AccessError):
    """The server refuses the credentials, or a certificate was refused: a person must act."""


class SqlUnknownOutcomeError(SqlError, UnknownOutcomeError):
    """The connection went while the commit was under way: whether it was applied is not known."""
