"""This module is what the HTTP store and its server say to each other."""

from __future__ import annotations

from typing import Any

import msgspec

from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateDecryptError,
    StateError,
    StateKeyError,
    StateQuotaError,
    StateTooLargeError,
    StateUnavailableError,
    StateValueError,
)
from rambla_py.state.record import StateRecord

__all__ = ["ABOUT", "Complaint", "Health", "Many", "Put", "Records", "Removed", "complaint_of", "error_of"]

ABOUT = "rambla state"
"""How a server of ours is told from another."""


class Health(msgspec.Struct):
    """The answer of ``GET /health``."""

    about: str
    status: str
    authorized: bool


class Put(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``PUT /record``: a record as it is."""

    record: StateRecord


class Many(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /records``: values by key, for so many seconds."""

    values: dict[str, Any]
    expires_s: float | None = None


class Records(msgspec.Struct):
    """The answer of ``GET`` and ``POST /records``."""

    records: list[StateRecord]


class Removed(msgspec.Struct):
    """The answer of ``DELETE`` and of ``POST /cleanup``: how many records are gone."""

    removed: int


class Complaint(msgspec.Struct, omit_defaults=True):
    """The body of an answer that is no success: which error, and its fields."""

    error: str
    message: str
    key: str = ""
    path: str = ""
    size: int = 0
    limit: int = 0
    applied: str = "no"


_STATUS: list[tuple[type[StateError], int]] = [
    (StateTooLargeError, 413),
    (StateKeyError, 400),
    (StateValueError, 400),
    (StateQuotaError, 507),
    (StateDecryptError, 500),
    (StateCorruptError, 500),
    (StateUnavailableError, 503),
]


def complaint_of(error: StateError) -> tuple[int, Complaint]:
    """Return the status and the body that tell of an error; an inner store's place stays inside.

    >>> complaint_of(StateKeyError("expected a text, got int"))[0]
    400
    """
    kind, status = next(((k, s) for k, s in _STATUS if isinstance(error, k)), (StateError, 500))
    reason = getattr(error, "reason", str(error))
    fields = {name: getattr(error, name) for name in ("key", "path", "size", "limit") if hasattr(error, name)}
    if isinstance(error, StateUnavailableError):
        reason, fields["applied"] = "its store does not answer; look at the server's log", error.applied
    return status, Complaint(kind.__name__, reason, **fields)


def error_of(status: int, body: bytes, store: str) -> StateError:
    """Return the error that an answer tells of.

    >>> error_of(507, b'{"error":"StateQuotaError","message":"full"}', "HttpStore")
    StateQuotaError('HttpStore has no room: full; nothing was written')
    """
    if status in (401, 403):
        return StateAccessError(store, f"it refused the token (status {status})")
    try:
        told = msgspec.json.decode(body, type=Complaint)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        applied = "unknown" if status >= 500 else "no"
        return StateUnavailableError(store, f"answered with status {status}", applied=applied)  # type: ignore[arg-type]
    if told.error == "StateTooLargeError":
        return StateTooLargeError(told.key, told.size, told.limit, f"the limit of {store}")
    if told.error == "StateKeyError":
        return StateKeyError(told.message)
    if told.error == "StateValueError":
        return StateValueError(told.key, told.path, told.message)
    if told.error == "StateQuotaError":
        return StateQuotaError(store, told.message)
    if told.error == "StateDecryptError":
        return StateDecryptError(told.key, told.message)
    if told.error == "StateCorruptError":
        return StateCorruptError(f"the store behind {store}", told.message)
    applied = "no" if told.applied == "no" else "unknown"
    return StateUnavailableError(store, told.message, applied=applied)  # type: ignore[arg-type]
