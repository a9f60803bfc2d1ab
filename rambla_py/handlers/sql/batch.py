"""Batches in one transaction, with refused rows found by halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rambla_py.handlers.sql.lock_waits import LockWaits
from rambla_py.handlers.sql.row_by_row import OF_ALL, UndoneError, undo, write_each
from rambla_py.sql.bulk import BulkWriter, Row
from rambla_py.sql.errors import SqlError, SqlUnavailableError

__all__ = ["write_batch"]


def write_batch(
    writer: BulkWriter, rows: Sequence[Row], *, savepoints: bool = True, waits: LockWaits | None = None
) -> dict[int, SqlError]:
    """Write rows in one transaction; return the errors of the refused rows, by place.

    All others are committed when this returns. An error that concerns all rows is raised: then none is
    written, or it is unknown (``SqlUnknownOutcomeError``). A constraint that is only checked at the commit
    does not tell which row violates it: then each part that passes is a transaction of its own, as it is in a
    database without ``savepoints``.

    If the batch waited too long for a lock and was rolled back, the rows are written one by one, with
    ``waits``: then those that are locked are refused, and the others are committed.
    """
    try:
        return _write_together(writer, rows, savepoints, waits)
    except SqlUnavailableError as error:
        if waits is None or not error.waited:
            raise
        waits.expect(True)
        return write_each(writer, rows, waits, together=error, savepoints=savepoints)


def _write_together(
    writer: BulkWriter, rows: Sequence[Row], savepoints: bool, waits: LockWaits | None
) -> dict[int, SqlError]:
    try:
        if waits is None or not waits.expected:
            writer.write_all(rows)
        else:
            _write_all_shortly(writer, rows, waits)
    except OF_ALL:
        raise
    except SqlError as error:
        if len(rows) == 1:
            return {0: error}
        return _sifted(writer, rows, waits) if savepoints else _in_parts(writer, rows, waits)
    return {}


def _write_all_shortly(writer: BulkWriter, rows: Sequence[Row], waits: LockWaits) -> None:
    """Write rows in a transaction of their own, with short waits: the batch before was held up by a lock."""
    writer.begin()
    try:
        with waits.short():
            writer.write(rows)
            writer.commit()
    except BaseException:
        writer.rollback()
        raise
    waits.expect(False)


def _sifted(writer: BulkWriter, rows: Sequence[Row], waits: LockWaits | None) -> dict[int, SqlError]:
    def attempt(part: Sequence[Row]) -> None:
        writer.savepoint()
        try:
            writer.write(part)
        except OF_ALL:
            raise
        except SqlError:
            undo(writer)
            raise
        writer.release()

    writer.begin()
    try:
        refused = _halved(rows, attempt)
    except UndoneError:
        return _in_parts(writer, rows, waits)
    except BaseException:
        writer.rollback()
        raise
    try:
        writer.commit()
    except OF_ALL:
        raise
    except SqlError:
        return _in_parts(writer, rows, waits)
    return refused


def _in_parts(writer: BulkWriter, rows: Sequence[Row], waits: LockWaits | None) -> dict[int, SqlError]:
    """Write rows in parts that are transactions of their own; the rows of one that waits, one by one."""

    def attempt_each(part: Sequence[Row], error: SqlUnavailableError) -> dict[int, SqlError]:
        if waits is None or not error.waited:
            raise error
        return write_each(writer, part, waits, savepoints=False)

    return _halved(rows, writer.write_all, attempt_each)


def _halved(
    rows: Sequence[Row],
    attempt: Callable[[Sequence[Row]], Any],
    attempt_each: Callable[[Sequence[Row], SqlUnavailableError], dict[int, SqlError]] | None = None,
) -> dict[int, SqlError]:
    """Return the errors of the rows that fail alone. All together are known to fail, so start with halves."""
    refused: dict[int, SqlError] = {}
    middle = len(rows) // 2
    parts = [(middle, len(rows)), (0, middle)] if len(rows) > 1 else [(0, 1)]
    while parts:
        begin, end = parts.pop()
        try:
            attempt(rows[begin:end])
        except SqlUnavailableError as error:
            if attempt_each is None:
                raise
            found = attempt_each(rows[begin:end], error)
            refused.update((begin + at, one) for at, one in found.items())
        except OF_ALL:
            raise
        except SqlError as error:
            if end - begin == 1:
                refused[begin] = error
                continue
            middle = (begin + end) // 2
            # The front half first: rows are written in order.
            parts += [(middle, end), (begin, middle)]
    return refused
