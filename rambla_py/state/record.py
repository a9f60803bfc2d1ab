"""Keyed records, as users see them and as stores keep them."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import msgspec

from rambla_py.errors import SerializationError
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.json_numbers import read_json
from rambla_py.state.errors import StateConflictError, StateCorruptError, StateKeyError, StateValueError

__all__ = [
    "MAX_KEY_BYTES",
    "RemoveRule",
    "Row",
    "StateRecord",
    "WriteRule",
    "check_key",
    "check_prefix",
    "check_ttl",
    "json_of",
    "new_version",
    "record_of",
    "row_of",
]

MAX_KEY_BYTES = 1024
"""The longest key, in bytes of UTF-8, that every built-in store takes."""

_VERSION_BYTES = 9

MAX_TTL_S = 1_000_000_000


class StateRecord(msgspec.Struct, frozen=True):
    """A record: ``value`` is the value as JSON returns it; times are in seconds since the epoch.

    ``created_at`` is when the key was first set, ``updated_at`` when it was last set; ``expires_at`` is None
    for a record that never expires. ``version`` is an opaque string that changes with every ``set``, also
    with one of the same value; ``set`` and ``delete`` take it as ``if_version``. It is empty for a record
    that was written before versions existed. A number with more digits than a float holds is a ``Decimal``,
    which is written as a number again.

    >>> StateRecord("cart-7", {"lines": 2}, 100.0, 160.0, 220.0).expired(now=220.0)
    True
    """

    key: str
    value: Any
    created_at: float
    updated_at: float
    expires_at: float | None = None
    version: str = ""

    def expired(self, now: float) -> bool:
        """Return whether the record has expired at a time."""
        return self.expires_at is not None and self.expires_at <= now


class Row(NamedTuple):
    """A record as stores keep it: the value is JSON text."""

    key: str
    value: bytes
    created_at: float
    updated_at: float
    expires_at: float | None = None
    version: str = ""

    def expired(self, now: float) -> bool:
        """Return whether the record has expired at a time."""
        return self.expires_at is not None and self.expires_at <= now


class WriteRule(NamedTuple):
    """How a row replaces the one that is stored under its key.

    A store calls it with both while no other writer can come between: under its lock, or in a transaction.
    A store whose server does the work reads the fields instead.
    """

    exact: bool = False
    """Store the row as it is, its creation time too."""

    if_absent: bool = False
    if_version: str | None = None

    def __call__(self, row: Row, stored: Row | None) -> Row:
        """Return the row to store; raises ``StateConflictError`` if the condition does not hold.

        >>> old = Row("a", b"1", 100.0, 100.0, version="x")
        >>> WriteRule(if_version="x")(Row("a", b"2", 160.0, 160.0), old).created_at
        100.0
        """
        if self.exact:
            return row
        live = None if stored is None or stored.expired(row.updated_at) else stored
        if self.if_absent and live is not None:
            raise StateConflictError(row.key, "it exists already")
        if self.if_version is not None and (live is None or live.version != self.if_version):
            raise StateConflictError(row.key, _changed(live))
        return row if live is None else row._replace(created_at=live.created_at)


class RemoveRule(NamedTuple):
    """Whether a row may be removed, and whether that counts; called as a ``WriteRule`` is."""

    now: float
    if_version: str | None = None

    def __call__(self, stored: Row | None) -> bool:
        """Return whether there is a live row; raises ``StateConflictError`` if it has another version.

        >>> RemoveRule(now=100.0)(Row("a", b"1", 10.0, 10.0, expires_at=100.0))
        False
        """
        live = None if stored is None or stored.expired(self.now) else stored
        if live is not None and self.if_version not in (None, live.version):
            raise StateConflictError(live.key, _changed(live))
        return live is not None


def _changed(live: Row | None) -> str:
    return "it does not exist" if live is None else "it was set since that version was read"


def new_version() -> str:
    """Return a version that no other record has."""
    return secrets.token_urlsafe(_VERSION_BYTES)


def check_key(key: Any) -> str:
    """Return the key; raises ``StateKeyError`` unless it is a string of 1 to 1,024 bytes.

    >>> check_key("cart-7")
    'cart-7'
    """
    if not isinstance(key, str):
        raise StateKeyError(f"expected a string, got {type(key).__name__}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise StateKeyError("a string with a lone surrogate, which UTF-8 cannot hold") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise StateKeyError(f"expected 1 to {MAX_KEY_BYTES} bytes, got {size}")
    if "\0" in key:
        raise StateKeyError("a string with a NUL character, which not every store can hold")
    return str.__str__(key)


def check_prefix(prefix: Any) -> str:
    """Return the prefix of keys; raises ``StateKeyError`` unless it is empty or could begin a key."""
    return "" if prefix == "" else check_key(prefix)


def check_ttl(key: str, expires_s: Any) -> float | None:
    """Return the seconds until a record expires; raises ``StateValueError``."""
    if expires_s is None:
        return None
    is_number = isinstance(expires_s, int | float) and not isinstance(expires_s, bool)
    if not is_number or not 0 < expires_s <= MAX_TTL_S:
        raise StateValueError(
            key, "expires_s", f"expected a number of seconds above 0, at most 10^9, got {expires_s!r}"
        )
    return float(expires_s)


def json_of(key: str, value: Any) -> bytes:
    """Return a value as JSON; raises ``StateValueError`` with the path to what JSON cannot hold."""
    try:
        return to_json(value)
    except SerializationError as error:
        raise StateValueError(key, error.path, error.got) from error


def row_of(key: Any, value: Any, *, now: float, expires_s: float | None = None) -> Row:
    """Return a new, checked row; raises ``StateKeyError`` and ``StateValueError``."""
    key = check_key(key)
    ttl = check_ttl(key, expires_s)
    return Row(key, json_of(key, value), now, now, None if ttl is None else now + ttl, new_version())


def record_of(row: Row) -> StateRecord:
    """Return a row as users see it; raises ``StateCorruptError`` if its value is not JSON."""
    try:
        value = read_json(row.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateCorruptError(f"the value of record {row.key!r}", str(error)) from error
    return StateRecord(row.key, value, *row[2:])
