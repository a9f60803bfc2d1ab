"""This module is one keyed record, as users see it and as stores keep it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec

from rambla_py.encoding import to_json
from rambla_py.errors import SerializationError
from rambla_py.state.errors import StateCorruptError, StateKeyError, StateValueError

__all__ = ["MAX_KEY_BYTES", "Row", "StateRecord", "check_key", "check_ttl", "json_of", "record_of", "row_of"]

MAX_KEY_BYTES = 1024
"""How long a key may be, in UTF-8: what every store takes."""


class StateRecord(msgspec.Struct, frozen=True):
    """A record: ``value`` is what JSON holds of what was set; times are in seconds since the epoch.

    ``created_at`` is when the key was first set, ``updated_at`` when it was set last; ``expires_at`` is None
    for a record that stays.

    >>> StateRecord("cart-7", {"lines": 2}, 100.0, 160.0, 220.0).expired(now=220.0)
    True
    """

    key: str
    value: Any
    created_at: float
    updated_at: float
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        """Say whether the record has expired at a time."""
        return self.expires_at is not None and self.expires_at <= now


class Row(NamedTuple):
    """A record as stores keep it: the value is JSON."""

    key: str
    value: bytes
    created_at: float
    updated_at: float
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        """Say whether the record has expired at a time."""
        return self.expires_at is not None and self.expires_at <= now

    def since(self, older: Row | None) -> Row:
        """Return the row as it is kept when ``older`` stood there: a live one hands on its creation."""
        if older is None or older.expired(self.updated_at):
            return self
        return self._replace(created_at=older.created_at)


def check_key(key: Any) -> str:
    """Return the key; raises ``StateKeyError`` for what is no text of 1 to 1,024 bytes.

    >>> check_key("cart-7")
    'cart-7'
    """
    if not isinstance(key, str):
        raise StateKeyError(f"expected a text, got {type(key).__name__}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise StateKeyError("a text with a lone surrogate, which UTF-8 cannot hold") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise StateKeyError(f"expected 1 to {MAX_KEY_BYTES} bytes, got {size}")
    if "\0" in key:
        raise StateKeyError("a text with a NUL character, which not every store can hold")
    return str.__str__(key)


def check_ttl(key: str, expires_s: Any) -> float | None:
    """Return how long a record stays, in seconds; raises ``StateValueError`` for what is no such time."""
    if expires_s is None:
        return None
    is_number = isinstance(expires_s, int | float) and not isinstance(expires_s, bool)
    if not is_number or not math.isfinite(expires_s) or expires_s <= 0:
        raise StateValueError(key, "expires_s", f"expected a number of seconds above 0, got {expires_s!r}")
    return float(expires_s)


def json_of(key: str, value: Any) -> bytes:
    """Return a value as JSON; raises ``StateValueError``, whose ``path`` leads to what JSON cannot hold."""
    try:
        return to_json(value)
    except SerializationError as error:
        raise StateValueError(key, error.path, error.got) from error


def row_of(key: Any, value: Any, *, now: float, expires_s: float | None = None) -> Row:
    """Return a new row, checked; raises ``StateKeyError`` and ``StateValueError``."""
    key = check_key(key)
    ttl = check_ttl(key, expires_s)
    return Row(key, json_of(key, value), now, now, None if ttl is None else now + ttl)


def record_of(row: Row) -> StateRecord:
    """Return a row as users see it; raises ``StateCorruptError`` when its value is no JSON."""
    try:
        value = msgspec.json.decode(row.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateCorruptError(f"the value of record {row.key!r}", str(error)) from error
    return StateRecord(row.key, value, row.created_at, row.updated_at, row.expires_at)
