"""Errors of SQLite as errors of the outbox."""

from __future__ import annotations

import sqlite3

from rambla_py.outbox.errors import OutboxBusyError, OutboxCorruptError, OutboxError, OutboxFullError

__all__ = ["is_full", "is_io_error", "journal_error"]

_BUSY = {"SQLITE_BUSY", "SQLITE_LOCKED"}
_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}


def journal_error(name: str, error: sqlite3.Error, *, committing: bool = False) -> OutboxError:
    """Return the error for one of SQLite; ``committing``: it was raised by COMMIT."""
    code, reason = _code(error), str(error)
    if code == "SQLITE_FULL":
        return OutboxFullError(name, f"the disk is full ({reason})")
    if code in _BUSY:
        return OutboxBusyError(name, f"another process has been writing for too long ({reason})")
    if code in _DAMAGED:
        return OutboxCorruptError(name, reason)
    unknown = committing and code == "SQLITE_IOERR"
    return OutboxError(name, f"{reason} ({code})" if code else reason, applied="unknown" if unknown else "no")


def is_io_error(error: sqlite3.Error) -> bool:
    """Return whether the operating system refused something, for whatever reason."""
    return _code(error) == "SQLITE_IOERR"


def is_full(error: OutboxError) -> bool:
    """Return whether the disk is full, and not a limit of the outbox reached."""
    return isinstance(error.__cause__, sqlite3.Error)


def _code(error: sqlite3.Error) -> str:
    """Return the primary code: ``SQLITE_BUSY_SNAPSHOT`` is a ``SQLITE_BUSY``."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
