"""Batches written row by row, so that a locked row does not hold up the others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from rambla_py.handlers.sql.lock_waits import LockWaits
from rambla_py.sql.bulk import BulkWriter, Row
from rambla_py.sql.errors import (
    SqlBusyError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlError,
    SqlStatementError,
    SqlUnavailableError,
    SqlUnknownOutcomeError,
)

__all__ = ["OF_ALL", "UndoneError", "undo", "write_each"]

# Any other error concerns a row, or may: one of an extension or a trigger is not known.
OF_ALL = (
    SqlStatementError,
    SqlConflictError,
    SqlBusyError,
    SqlUnavailableError,
    SqlConnectionLostError,
    SqlUnknownOutcomeError,
)

_FEW = 3
"""So many rows that wait, while none passes, mean that it is not for their own locks."""

_TOGETHER_S = 5.0
"""How long the rows of a batch may take one by one; MySQL waits a second for each that is locked."""

_APART_S = 1.0
"""How long rows that were refused before may take together."""


class UndoneError(Exception):
    """A row has ended the whole transaction, as SQLite's ``ON CONFLICT ROLLBACK`` does."""


def undo(writer: BulkWriter) -> None:
    """Roll back to the savepoint; raises ``UndoneError`` if the transaction is gone."""
    try:
        writer.rollback_to()
    except SqlStatementError as gone:
        raise UndoneError from gone


def write_each(
    writer: BulkWriter,
    rows: Sequence[Row],
    waits: LockWaits,
    *,
    together: SqlUnavailableError | None = None,
    savepoints: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> dict[int, SqlError]:
    """Write rows one by one in one transaction, with short waits; return the errors of the refused rows.

    The error of a locked row has the scope of such rows. ``together`` is the error of the batch that holds
    all of them: it is raised, and nothing is written, if the whole table is locked. Rows that are left when
    the time is over have it as their error, or, without ``together``, that of the last locked row; then the
    first row is chosen at random, so that each is tried at last. Where one transaction cannot hold all, each
    row is a transaction of its own.
    """
    if savepoints:
        try:
            return _in_one(writer, rows, waits, together, clock)
        except UndoneError:
            pass
    refused = {at: _by_itself(writer, row, waits) for at, row in enumerate(rows)}
    return {at: error for at, error in refused.items() if error is not None}


def _in_one(
    writer: BulkWriter,
    rows: Sequence[Row],
    waits: LockWaits,
    together: SqlUnavailableError | None,
    clock: Callable[[], float],
) -> dict[int, SqlError]:
    writer.begin()
    try:
        with waits.short():
            if together is not None:
                _check_tables(rows, waits, together)
            refused = _each(writer, rows, waits, together, clock)
            _commit(writer)
    except BaseException:
        writer.rollback()
        raise
    return refused


def _check_tables(rows: Sequence[Row], waits: LockWaits, together: SqlUnavailableError) -> None:
    """Raise ``together`` if a whole table is locked."""
    try:
        waits.touch(rows)
    except SqlConnectionLostError:
        raise
    except SqlError as error:
        raise together from error


def _each(
    writer: BulkWriter,
    rows: Sequence[Row],
    waits: LockWaits,
    together: SqlUnavailableError | None,
    clock: Callable[[], float],
) -> dict[int, SqlError]:
    refused: dict[int, SqlError] = {}
    locked, end = 0, clock() + (_APART_S if together is None else _TOGETHER_S)
    order = list(range(len(rows)))
    if together is None:
        first = random.randrange(len(rows))
        order = order[first:] + order[:first]
    for done, at in enumerate(order, 1):
        error = _attempt(writer, rows[at], waits)
        if error is not None:
            refused[at] = error
        waited, over = isinstance(error, SqlUnavailableError), clock() > end
        locked += waited
        if together is not None and locked == done and (locked == _FEW or over):
            raise together from error
        if over and (left := together or (error if waited else None)) is not None:
            return {**dict.fromkeys(order[done:], left), **refused}
    return refused


def _attempt(writer: BulkWriter, row: Row, waits: LockWaits) -> SqlError | None:
    writer.savepoint()
    try:
        writer.write([row])
    except SqlError as error:
        found = _of_row(error, row, waits)
    else:
        writer.release()
        return None
    undo(writer)
    return found


def _by_itself(writer: BulkWriter, row: Row, waits: LockWaits) -> SqlError | None:
    """Write a row in a transaction of its own; return its error."""
    writer.begin()
    try:
        with waits.short():
            writer.write([row])
            writer.commit()
    except SqlError as error:
        writer.rollback()
        return _of_row(error, row, waits)
    return None


def _commit(writer: BulkWriter) -> None:
    try:
        writer.commit()
    except OF_ALL:
        raise
    except SqlError as late:  # it does not tell which row violates a constraint
        raise UndoneError from late


def _of_row(error: SqlError, row: Row, waits: LockWaits) -> SqlError:
    """Return the error of a row, with the scope of locked ones if it waited; raise one that concerns all."""
    if isinstance(error, SqlUnavailableError) and error.waited and not error.ends_session:
        error.scope = waits.scope(row)
        return error
    if isinstance(error, OF_ALL):
        raise error
    return error
