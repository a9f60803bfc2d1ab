"""Transactions of a thread or a task, nested as savepoints."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rambla_py.sql.errors import SqlConnectionLostError, SqlError, SqlStatementError, SqlUnknownOutcomeError

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ["Levels", "Transaction"]


class Connections(Protocol):
    """Where transactions get their connections: an ``Executor``."""

    def tested(self, isolation: str | None) -> sqlalchemy.Connection:
        """Return a connection for a transaction."""

    def give_back(self, connection: sqlalchemy.Connection) -> None:
        """Return it to the pool."""

    def check(self, levels: Levels) -> None:
        """Raise if an error has ended the open transaction."""

    def mapped(self, error: BaseException) -> SqlError:
        """Return the ``SqlError`` for any error."""


class Levels:
    """What one thread or task has open: its connection, and a level for the transaction and each savepoint.

    ``failed`` is the last error of a statement in it, which may have ended the transaction; ``streams`` are
    the queries whose rows are still being read.
    """

    def __init__(self) -> None:
        self.connection: sqlalchemy.Connection | None = None
        self.open: list[Transaction] = []
        self.failed: SqlError | None = None
        self.streams: set[Any] = set()

    @property
    def innermost(self) -> Transaction:
        """The level begun last; raises ``SqlStatementError`` if there is none."""
        if not self.open:
            raise SqlStatementError("no transaction is open here")
        return self.open[-1]


class Transaction:
    """A transaction, or a savepoint inside one; ``with`` commits it, or rolls it back on an exception.

    It belongs to the thread that began it.
    """

    def __init__(self, levels: Levels, executor: Connections, isolation: str | None) -> None:
        self._levels, self._executor, self._isolation = levels, executor, isolation
        self._inner: Any = None

    def __repr__(self) -> str:
        return f"<Transaction {'open' if self.active else 'ended'}>"

    @property
    def active(self) -> bool:
        """Whether the transaction is open: begun, and neither committed nor rolled back."""
        return self in self._levels.open

    def begin(self) -> Self:
        """Begin the transaction, or a savepoint if this thread has one open."""
        levels = self._levels
        if self.active:
            raise SqlStatementError("this transaction has already begun")
        if levels.open and self._isolation is not None:
            raise SqlStatementError("only the outermost transaction takes an isolation level")
        if levels.connection is None:
            levels.connection = self._executor.tested(self._isolation)
        self._executor.check(levels)
        connection = levels.connection
        try:
            self._inner = connection.begin_nested() if levels.open else connection.begin()
        except SqlError:
            self._release()
            raise
        except Exception as error:
            self._release()
            raise self._executor.mapped(error) from error
        levels.open.append(self)
        return self

    def commit(self) -> None:
        """Commit the transaction with the savepoints open inside it; a savepoint becomes part of its parent.

        Raises ``SqlUnknownOutcomeError`` if the connection is lost meanwhile, and the error of a constraint
        that is checked at the commit; the transaction is then rolled back. If an error has ended the
        transaction before, it is rolled back, and that error is raised again.
        """
        inner, outermost = self._take()
        try:
            self._executor.check(self._levels)
            inner.commit()
        except SqlError:
            self._undo(inner)
            raise
        except Exception as error:
            mapped = self._executor.mapped(error)
            if outermost and isinstance(mapped, SqlConnectionLostError):
                mapped = SqlUnknownOutcomeError(f"lost before the answer to the commit: {mapped}")
            self._undo(inner)
            raise mapped from error
        finally:
            self._release()

    def rollback(self) -> None:
        """Roll back; after a loss of the connection the database has done so."""
        inner, _ = self._take()
        self._undo(inner)
        self._release()

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.active:
            return  # committed or rolled back inside the block
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def _take(self) -> tuple[Any, bool]:
        """Remove this level and those inside; return SQLAlchemy's object, and whether it is outermost."""
        if not self.active:
            raise SqlStatementError("this transaction is not open here")
        at = self._levels.open.index(self)
        del self._levels.open[at:]
        return self._inner, at == 0

    def _undo(self, inner: Any) -> None:
        try:
            inner.rollback()
        except SqlError:
            raise
        except Exception as error:
            mapped = self._executor.mapped(error)
            if not isinstance(mapped, SqlConnectionLostError | SqlStatementError):
                raise mapped from error

    def _release(self) -> None:
        levels = self._levels
        if not levels.open and levels.connection is not None:
            connection, levels.connection, levels.failed = levels.connection, None, None
            self._executor.give_back(connection)
