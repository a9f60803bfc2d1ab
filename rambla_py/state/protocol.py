"""The HTTP protocol of state stores."""

from __future__ import annotations

from typing import Any

import msgspec

from rambla_py.state.errors import (
    StateAccessError,
    StateConflictError,
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

__all__ = [
    "ABOUT",
    "Failure",
    "Health",
    "Keys",
    "Many",
    "One",
    "Put",
    "Records",
    "Removed",
    "error_of",
    "failure_of",
]

ABOUT = "rambla state"
"""What distinguishes a server of ``rambla state serve`` from another."""


class Health(msgspec.Struct):
    """The answer of ``GET /health``."""

    about: str
    status: str
    authorized: bool


class Put(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``PUT /record``: a record as it is."""

    record: StateRecord


class One(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /record``: a value to store, and its conditions."""

    key: str
    value: Any
    expires_s: float | None = None
    if_absent: bool = False
    if_version: str | None = None


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /read``: the keys of records."""

    keys: list[str]


class Many(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /records``: values by key, and their expiry in seconds."""

    values: dict[str, Any]
    expires_s: float | None = None


class Records(msgspec.Struct):
    """The answer of ``GET`` and ``POST /records``, and of ``POST /read``."""

    records: list[StateRecord]


class Removed(msgspec.Struct):
    """The answer of ``DELETE`` and of ``POST /cleanup``: how many records were removed."""

    removed: int


class Failure(msgspec.Struct, omit_defaults=True):
    """The body of an answer with a status other than 200: the name of the error, and its fields."""

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
    (StateConflictError, 409),
    (StateQuotaError, 507),
    (StateDecryptError, 500),
    (StateCorruptError, 500),
    (StateUnavailableError, 503),
]


def failure_of(error: StateError) -> tuple[int, Failure]:
    """Return the status and the body that report an error, without the location of an inner store.

    >>> failure_of(StateKeyError("expected a string, got int"))[0]
    400
    """
    kind, status = next(((k, s) for k, s in _STATUS if isinstance(error, k)), (StateError, 500))
    reason = getattr(error, "reason", str(error))
    fields = {name: getattr(error, name) for name in ("key", "path", "size", "limit") if hasattr(error, name)}
    if isinstance(error, StateUnavailableError):
        reason, fields["applied"] = "its store does not answer; see the log of the server", error.applied
    return status, Failure(kind.__name__, reason, **fields)


def error_of(status: int, body: bytes, store: str) -> StateError:
    """Return the error that an answer reports.

    >>> error_of(507, b'{"error":"StateQuotaError","message":"full"}', "HttpStore")
    StateQuotaError('HttpStore is full: full; nothing was written')
    """
    if status in (401, 403):
        return StateAccessError(store, f"it refused the token (status {status})")
    try:
        failure = msgspec.json.decode(body, type=Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        applied = "unknown" if status >= 500 else "no"
        return StateUnavailableError(store, f"answered with status {status}", applied=applied)  # type: ignore[arg-type]
    if failure.error == "StateTooLargeError":
        return StateTooLargeError(failure.key, failure.size, failure.limit, f"the limit of {store}")
    if failure.error == "StateKeyError":
        return StateKeyError(failure.message)
    if failure.error == "StateValueError":
        return StateValueError(failure.key, failure.path, failure.message)
    if failure.error == "StateConflictError":
        return StateConflictError(failure.key, failure.message)
    if failure.error == "StateQuotaError":
        return StateQuotaError(store, failure.message)
    if failure.error == "StateDecryptError":
        return StateDecryptError(failure.key, failure.message)
    if failure.error == "StateCorruptError":
        return StateCorruptError(f"the store behind {store}", failure.message)
    applied = "no" if failure.applied == "no" else "unknown"
    return StateUnavailableError(store, failure.message, applied=applied)  # type: ignore[arg-type]
