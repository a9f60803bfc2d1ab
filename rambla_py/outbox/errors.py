"""Errors of the outbox, drawn as a tree.

::

    RamblaError
    ├── DuplicateIdError            an id that another message had
    └── OutboxError                 nothing was accepted                .applied
        ├── OutboxFullError         the outbox, or its disk, is full
        ├── OutboxBusyError         another process, or this thread itself, is writing
        ├── OutboxCorruptError      the file is damaged, or no journal
        ├── OutboxSchemaError       tables of another version, or none
        └── NoTransactionError      outbox.publish outside of a transaction
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rambla_py.errors import RamblaError

__all__ = [
    "DuplicateIdError",
    "NoTransactionError",
    "OutboxBusyError",
    "OutboxCorruptError",
    "OutboxError",
    "OutboxFullError",
    "OutboxSchemaError",
]


class DuplicateIdError(RamblaError):
    """A message with this id, but another payload, was published to the target before."""

    def __init__(self, target: str, message_id: str) -> None:
        self.target, self.message_id = target, message_id
        super().__init__(
            f"{target}: the id {message_id!r} belongs to a message with another payload; "
            "give each message an id of its own"
        )


class OutboxError(RamblaError):
    """The outbox did not store a message, or could not be used.

    ``applied`` is ``"unknown"`` if a commit failed that may have taken effect: publishing again with the
    same ``id`` is safe.
    """

    def __init__(self, name: str, reason: str, *, applied: Literal["no", "unknown"] = "no") -> None:
        self.name, self.reason, self.applied = name, reason, applied
        tail = "; it may have been stored: publish again with the same id" if applied == "unknown" else ""
        super().__init__(f"outbox {name}: {reason}{tail}")


class OutboxFullError(OutboxError):
    """The outbox has reached one of its limits, or its disk is full; nothing was accepted."""


class OutboxBusyError(OutboxError):
    """Another process has been writing for too long, or this thread is; nothing was accepted."""


class OutboxCorruptError(OutboxError):
    """The file of the outbox is damaged, or is no journal."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, f"{reason}; copy what can be read with: rambla outbox rescue {name} NEW")


class OutboxSchemaError(OutboxError):
    """The tables of the outbox are missing, or have another version than this one writes.

    ``lacking`` are tables and columns of a SQLite file that has others of the outbox.
    """

    def __init__(self, name: str, *, found: int, known: int, lacking: Sequence[str] = ()) -> None:
        self.found, self.known = found, known
        if lacking:
            reason = (
                f"its tables are not those of a release, they lack {', '.join(lacking)}; "
                f"copy what is in them with: rambla outbox rescue {name} NEW"
            )
        elif found > known:
            reason = f"its tables have version {found}, and this release knows {known}: install a newer one"
        else:
            reason = "the tables of the outbox are not there: run rambla outbox init"
        super().__init__(name, reason)


class NoTransactionError(OutboxError):
    """``outbox.publish`` was given a connection without an open transaction."""
