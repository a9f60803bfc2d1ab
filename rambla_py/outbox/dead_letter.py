"""A dead letter as applications and people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rambla_py.outbox.codec import load_value
from rambla_py.outbox.row_of import decoded
from rambla_py.outbox.rows import Attempt, Letter, Progress, Row

__all__ = ["DeadLetter", "read_letter"]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that failed for good, with its error. Times are seconds since the epoch.

    ``target`` is ``service.channel``; ``payload``, ``options`` and ``headers`` are what the message gave.
    ``attempts`` counts the attempts, ``history`` has those that failed (of many the first and the last ones).
    ``error`` is the redacted text, ``errors`` the types of the error and its causes, ``reason`` why it is
    dead: ``fatal``, ``unreadable``, ``no channel``, ``options``, ``too old`` or ``crash``. Letters of one
    ``group`` have the same kind of error; ``replayed`` counts the replays before this death.

    ``unreadable`` says why payload or options cannot be read; the payload's bytes are in ``raw`` then.
    """

    id: str
    target: str
    key: str | None
    payload: Any
    options: Mapping[str, Any]
    headers: Mapping[str, Any]
    attempts: int
    history: tuple[Attempt, ...]
    error: str
    errors: tuple[str, ...]
    reason: str
    group: str
    handler: str
    accepted: float
    died: float
    replayed: int
    unreadable: str | None = None
    raw: bytes | None = None


def read_letter(letter: Letter) -> DeadLetter:
    """Return a letter with its payload and options decoded."""
    row, wrong = letter.row, None
    payload: Any = None
    options: dict[str, Any] = {}
    try:
        options = _options(row)
        if not row.sound:
            raise ValueError("its checksum is wrong")
        payload = decoded(row)
    except ValueError as error:
        wrong = str(error)
    return DeadLetter(
        id=row.id,
        target=row.target,
        key=row.key,
        payload=payload,
        headers=options.pop("headers", {}),
        options=options,
        attempts=letter.attempts,
        history=_history(row),
        error=letter.error,
        errors=letter.errors,
        reason=letter.reason,
        group=letter.fingerprint,
        handler=letter.handler,
        accepted=row.accepted,
        died=letter.died,
        replayed=letter.replayed,
        unreadable=wrong,
        raw=None if wrong is None else row.payload,
    )


def _options(row: Row) -> dict[str, Any]:
    options = {} if row.options is None else load_value(row.options)
    if not isinstance(options, dict):
        raise ValueError("its options are no table")
    return options


def _history(row: Row) -> tuple[Attempt, ...]:
    try:
        return tuple(Progress.load(row.progress).history)
    except ValueError:
        return ()
