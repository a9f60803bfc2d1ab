"""This module is a transaction of one thread: begun, nested by savepoints, committed or rolled back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import sqlalchemy

from rambla_py.sql.alchemy import ended_by
from rambla_py.sql.errors import SqlConnectionLostError, SqlError, SqlStatementError, SqlUnknownOutcomeError

__all__ = ["Levels", "Transaction"]


class Levels(threading.local):
    """What one thread has open: its connection, and a level for the transaction and each savepoint in it.

    ``failed`` is the last error of a statement there, which may have ended all of it.
    """

    def __init__(self) -> None:
        self.connection: sqlalchemy.Connection | None = None
        self.open: list[Transaction] = []
        self.failed: SqlError | None = None

    def check(self) -> None:
        """Raise when an error has ended the transaction: nothing more can be done in it."""
        ended = None if self.connection is None else ended_by(self.connection, self.failed)
        if ended is not None:
            raise ended


class Transaction:
    """A transaction, or a savepoint inside of one; ``with`` commits it, or rolls it back on an exception.

    It belongs to the thread that began it.
    """

    def __init__(
        self,
        levels: Levels,
        checkout: Callable[[str | None], sqlalchemy.Connection],
        give_back: Callable[[sqlalchemy.Connection], None],
        mapped: Callable[[BaseException], SqlError],
        isolation: str | None,
    ) -> None:
        self._levels, self._mapped, self._isolation = levels, mapped, isolation
        self._checkout, self._give_back = checkout, give_back
        self._inner: Any = None

    def __repr__(self) -> str:
        return f"<Transaction {'open' if self.active else 'ended'}>"

    @property
    def active(self) -> bool:
        """Whether it is open: neither committed nor rolled back."""
        return self in self._levels.open

    def begin(self) -> Self:
        """Begin it: a transaction, or a savepoint where this thread has one open."""
        levels = self._levels
        if self.active:
            raise SqlStatementError("this transaction was begun already")
        if levels.open and self._isolation is not None:
            raise SqlStatementError("an isolation level belongs to the outermost transaction")
        if levels.connection is None:
            levels.connection = self._checkout(self._isolation)
        levels.check()
        try:
            connection = levels.connection
            self._inner = connection.begin_nested() if levels.open else connection.begin()
        except Exception as error:
            self._let_go()
            raise self._mapped(error) from error
        levels.open.append(self)
        return self

    def commit(self) -> None:
        """Commit it, and the savepoints that are open inside; a savepoint joins what is around it.

        Raises ``SqlUnknownOutcomeError`` when the connection is lost meanwhile, and what the database says
        of a constraint that it checks only now; it is then rolled back. So it is when an error has ended
        the transaction before, and that error is raised again.
        """
        inner, outermost = self._take()
        try:
            self._levels.check()
            inner.commit()
        except SqlError:
            self._undo(inner)
            raise
        except Exception as error:
            mapped = self._mapped(error)
            if outermost and isinstance(mapped, SqlConnectionLostError):
                mapped = SqlUnknownOutcomeError(f"lost before the answer to the commit: {mapped}")
            self._undo(inner)
            raise mapped from error
        finally:
            self._let_go()

    def rollback(self) -> None:
        """Undo all that was done in it; a connection that is gone has done so already."""
        inner, _ = self._take()
        self._undo(inner)
        self._let_go()

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
        """Close this level and those inside; return SQLAlchemy's transaction, and whether it is outermost."""
        if not self.active:
            raise SqlStatementError("this transaction is not open in this thread")
        at = self._levels.open.index(self)
        del self._levels.open[at:]
        return self._inner, at == 0

    def _undo(self, inner: Any) -> None:
        try:
            inner.rollback()
        except Exception as error:
            mapped = self._mapped(error)
            if not isinstance(mapped, SqlConnectionLostError | SqlStatementError):
                raise mapped from error

    def _let_go(self) -> None:
        levels = self._levels
        if not levels.open and levels.connection is not None:
            connection, levels.connection, levels.failed = levels.connection, None, None
            self._give_back(connection)
