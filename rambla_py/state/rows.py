"""This module is what stores share that keep rows of bytes: keys and values checked, times, expiry."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rambla_py.state.errors import StateValueError
from rambla_py.state.record import Row, StateRecord, check_key, json_of, record_of, row_of
from rambla_py.state.store import StateStore

__all__ = ["RowStore"]


class RowStore(StateStore):
    """A store that keeps rows. Subclass it and write the six methods that begin with an underscore.

    They are given checked keys and rows, and the time; each is one step that no other thread or process sees
    in halves. ``clock`` gives seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock

    def get(self, key: str) -> StateRecord | None:
        """Return the record, or None."""
        self._check_ready()
        row = self._read(check_key(key))
        return None if row is None or row.expired(self._clock()) else record_of(row)

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set several keys at once."""
        self._check_ready()
        now = self._clock()
        rows = [row_of(key, value, now=now, expires_s=expires_s) for key, value in values.items()]
        return [record_of(row) for row in self._write(rows, exact=False)] if rows else []

    def put(self, record: StateRecord) -> None:
        """Keep a record as it is."""
        self._check_ready()
        key = check_key(record.key)
        for name in ("created_at", "updated_at", "expires_at"):
            _check_time(key, name, getattr(record, name))
        row = Row(key, json_of(key, record.value), record.created_at, record.updated_at, record.expires_at)
        self._write([row], exact=True)

    def delete(self, key: str) -> bool:
        """Remove a record; say whether there was one."""
        self._check_ready()
        return self._remove(check_key(key), self._clock())

    def get_all(self) -> list[StateRecord]:
        """Return every record, sorted by key."""
        self._check_ready()
        rows = list(self._read_all())
        now = self._clock()
        return [record_of(row) for row in sorted(rows) if not row.expired(now)]

    def clear(self) -> None:
        """Remove every record."""
        self._check_ready()
        self._wipe()

    def cleanup_expired(self) -> int:
        """Free the room that expired records take; return how many there were."""
        self._check_ready()
        return self._sweep(self._clock())

    @abstractmethod
    def _read(self, key: str) -> Row | None:
        """Return the row of a key, expired or not."""

    @abstractmethod
    def _write(self, rows: Sequence[Row], *, exact: bool) -> Sequence[Row]:
        """Keep rows, one at least; return them as they are kept.

        Unless ``exact``, a row takes over what ``row.since(older)`` says, of the one that stood there.
        """

    @abstractmethod
    def _remove(self, key: str, now: float) -> bool:
        """Remove a row; say whether there was one that had not expired."""

    @abstractmethod
    def _read_all(self) -> Iterable[Row]:
        """Return every row, expired or not, in any order."""

    @abstractmethod
    def _wipe(self) -> None:
        """Remove every row."""

    @abstractmethod
    def _sweep(self, now: float) -> int:
        """Remove the expired rows; return how many there were."""


def _check_time(key: str, name: str, at: Any) -> None:
    if at is None and name == "expires_at":
        return
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < float("inf"):
        raise StateValueError(key, name, f"expected seconds since the epoch, got {at!r}")
