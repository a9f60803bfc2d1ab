"""What ``outbox.publish`` needs of a connection."""

from __future__ import annotations

from typing import Any, Protocol

from rambla_py.outbox.errors import NoTransactionError, OutboxError
from rambla_py.outbox.transactional.statements import Dialect, Query

__all__ = [
    "AsyncBinding",
    "Binding",
    "by_name",
    "colon",
    "dollar",
    "known_dialect",
    "named",
    "no_transaction",
    "percent",
    "question_mark",
]


class Binding(Protocol):
    """A connection of some driver, in a transaction of the application."""

    name: str
    guesses_types: bool

    def dialect(self) -> Dialect:
        """Return the dialect of its database; raises ``OutboxError`` for one without an outbox."""

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open that has not failed."""

    def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""


class AsyncBinding(Protocol):
    """A connection of some asynchronous driver, in a transaction of the application."""

    name: str
    guesses_types: bool

    def dialect(self) -> Dialect:
        """Return the dialect of its database; raises ``OutboxError`` for one without an outbox."""

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open that has not failed."""

    async def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""


def no_transaction(name: str, reason: str) -> NoTransactionError:
    """Return the error for a connection that is not in a transaction."""
    return NoTransactionError(name, f"{reason}; call outbox.publish inside of a transaction")


def known_dialect(name: str, dialect: str) -> Dialect:
    """Return the dialect by its name in SQLAlchemy and Django; raises ``OutboxError``."""
    if dialect == "sqlite":
        return "sqlite"
    if dialect == "postgresql":
        return "postgresql"
    reason = f"there is no outbox in a database of the kind {dialect!r}; use sqlite or postgresql"
    raise OutboxError(name, reason)


def question_mark(at: int) -> str:
    """Return the placeholder of sqlite3."""
    return "?"


def percent(at: int) -> str:
    """Return the positional placeholder of Django."""
    return "%s"


def named(at: int) -> str:
    """Return the placeholder of psycopg."""
    return f"%(p{at})s"


def colon(at: int) -> str:
    """Return the placeholder of SQLAlchemy."""
    return f":p{at}"


def dollar(at: int) -> str:
    """Return the placeholder of asyncpg."""
    return f"${at + 1}"


def by_name(query: Query) -> dict[str, Any]:
    """Return the parameters of a query for ``named`` and ``colon``."""
    return {f"p{at}": value for at, value in enumerate(query.parameters)}
