"""This module writes a batch whole, or finds the rows that keep it from being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rambla_py.handlers.sql.writers import Row, Writer
from rambla_py.sql.errors import (
    SqlBusyError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlError,
    SqlStatementError,
    SqlUnknownOutcomeError,
)

__all__ = ["write_batch"]

# Any other error is a row's, or may be: that of an extension or of a trigger, which nobody here knows.
_OF_ALL = (SqlStatementError, SqlConflictError, SqlBusyError, SqlConnectionLostError, SqlUnknownOutcomeError)


class _UndoneError(Exception):
    """A row has ended the whole transaction, as SQLite's ``ON CONFLICT ROLLBACK`` has it."""


def write_batch(writer: Writer, rows: Sequence[Row]) -> dict[int, SqlError]:
    """Write rows in one transaction, and return the errors of those that the database refuses, by place.

    All others are committed when this returns. What concerns them all is raised: none is written then, or, as
    ``SqlUnknownOutcomeError`` says, nobody knows. A constraint that is checked at the commit only does not
    tell whose it is: then each part that passes is a transaction of its own.
    """
    try:
        writer.write_all(rows)
    except _OF_ALL:
        raise
    except SqlError as error:
        if len(rows) == 1:
            return {0: error}
        return _sifted(writer, rows)
    return {}


def _sifted(writer: Writer, rows: Sequence[Row]) -> dict[int, SqlError]:
    def attempt(part: Sequence[Row]) -> None:
        writer.savepoint()
        try:
            writer.write(part)
        except _OF_ALL:
            raise
        except SqlError:
            try:
                writer.rollback_to()
            except SqlStatementError as gone:
                raise _UndoneError from gone
            raise
        writer.release()

    writer.begin()
    try:
        refused = _halved(rows, attempt)
    except _UndoneError:
        return _halved(rows, writer.write_all)
    except BaseException:
        writer.rollback()
        raise
    try:
        writer.commit()
    except _OF_ALL:
        raise
    except SqlError:
        return _halved(rows, writer.write_all)
    return refused


def _halved(rows: Sequence[Row], attempt: Callable[[Sequence[Row]], Any]) -> dict[int, SqlError]:
    """Return the errors of the rows that fail alone; the whole is known to fail, so halves come first."""
    refused: dict[int, SqlError] = {}
    middle = len(rows) // 2
    parts = [(middle, len(rows)), (0, middle)] if len(rows) > 1 else [(0, 1)]
    while parts:
        begin, end = parts.pop()
        try:
            attempt(rows[begin:end])
        except _OF_ALL:
            raise
        except SqlError as error:
            if end - begin == 1:
                refused[begin] = error
                continue
            middle = (begin + end) // 2
            # The front half is taken first: rows are written in order, whichever of them are refused.
            parts += [(middle, end), (begin, middle)]
    return refused
