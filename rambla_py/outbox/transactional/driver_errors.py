"""Errors of any driver as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rambla_py.errors import RamblaError, describe
from rambla_py.outbox.errors import (
    NoTransactionError,
    OutboxBusyError,
    OutboxError,
    OutboxFullError,
    OutboxSchemaError,
)
from rambla_py.outbox.rows import SCHEMA_VERSION

__all__ = ["mapped_errors", "outbox_error"]

_BY_SQLSTATE: dict[str, type[OutboxError]] = {
    "25P02": NoTransactionError,  # an earlier statement has failed
    "55P03": OutboxBusyError,
    "53100": OutboxFullError,
}
_MISSING_TABLE = "42P01"
_BY_SQLITE_NAME: dict[str, type[OutboxError]] = {
    "SQLITE_BUSY": OutboxBusyError,
    "SQLITE_LOCKED": OutboxBusyError,
    "SQLITE_FULL": OutboxFullError,
}


@contextmanager
def mapped_errors(name: str) -> Iterator[None]:
    """Map what a driver raises within the block; ``name`` is the kind of connection."""
    try:
        yield
    except RamblaError:
        raise
    except Exception as error:
        raise outbox_error(name, error) from error


def outbox_error(name: str, error: BaseException) -> OutboxError:
    """Return our error for one of a driver, or of a library around it."""
    for one in _chain(error):
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if state == _MISSING_TABLE or str(one).startswith("no such table"):
            return OutboxSchemaError(name, found=0, known=SCHEMA_VERSION)
        if state in _BY_SQLSTATE:
            return _BY_SQLSTATE[state](name, describe(one))
        kind = _BY_SQLITE_NAME.get("_".join((getattr(one, "sqlite_errorname", None) or "").split("_")[:2]))
        if kind is not None:
            return kind(name, describe(one))
        if type(one).__name__ == "PendingRollbackError":
            return NoTransactionError(name, "the transaction has failed, and must be rolled back")
    return OutboxError(name, describe(_of_driver(error)))


def _of_driver(error: BaseException) -> BaseException:
    """Return the driver's error; the text of SQLAlchemy's has the parameters, and payloads in them."""
    inner = getattr(error, "orig", None)
    return inner if isinstance(inner, BaseException) else error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, those that it wraps (``orig`` of SQLAlchemy) and its causes."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        waiting += [getattr(one, "orig", None), one.__cause__]
