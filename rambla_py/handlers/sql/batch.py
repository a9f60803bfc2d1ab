"""Batches in one transaction, with refused rows found by halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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

__all__ = ["write_batch"]

# Any other error concerns a row, or may: one of an extension or a trigger is not known.
_OF_ALL = (
    SqlStatementError,
    SqlConflictError,
    SqlBusyError,
    SqlUnavailableError,
    SqlConnectionLostError,
    SqlUnknownOutcomeError,
)


class _UndoneError(Exception):
    """A row has ended the whole transaction, as SQLite's ``ON CONFLICT ROLLBACK`` does."""


def write_batch(writer: BulkWriter, rows: Sequence[Row], *, savepoints: bool = True) -> dict[int, SqlError]:
    """Write rows in one transaction; return the errors of the refused rows, by place.

    All others are committed when this returns. An error that concerns all rows is raised: then none is
    written, or it is unknown (``SqlUnknownOutcomeError``). A constraint that is only checked at the commit
    does not tell which row violates it: then each part that passes is a transaction of its own, as it is in a
    database without ``savepoints``.
    """
    try:
        writer.write_all(rows)
    except _OF_ALL:
        raise
    except SqlError as error:
        if len(rows) == 1:
            return {0: error}
        return _sifted(writer, rows) if savepoints else _halved(rows, writer.write_all)
    return {}


def _sifted(writer: BulkWriter, rows: Sequence[Row]) -> dict[int, SqlError]:
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
    """Return the errors of the rows that fail alone. All together are known to fail, so start with halves."""
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
            # The front half first: rows are written in order.
            parts += [(middle, end), (begin, middle)]
    return refused
