"""Base of the stores that keep rows of bytes: checks, times, expiry."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rambla_py.state.errors import StateError, StateValueError
from rambla_py.state.record import (
    RemoveRule,
    Row,
    StateRecord,
    WriteRule,
    check_key,
    check_prefix,
    json_of,
    new_version,
    record_of,
    row_of,
)
from rambla_py.state.store import StateStore

__all__ = ["RowStore", "exact_row", "write_rule"]

_log = logging.getLogger("rambla_py.state")


class RowStore(StateStore):
    """A store that keeps rows. Subclass it and write the six abstract methods that begin with an underscore.

    They get checked keys, rows and rules; each must be atomic for other threads and processes. ``clock``
    returns seconds since the epoch. With ``cleanup_every_s`` a write also removes expired records, at most
    once in so many seconds, and at the first write.
    """

    def __init__(
        self, *, cleanup_every_s: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        if cleanup_every_s is not None and not cleanup_every_s > 0:
            raise ValueError(f"cleanup_every_s must be above 0; got {cleanup_every_s!r}")
        self._clock = clock
        self._cleanup_every_s = cleanup_every_s
        self._cleaned_at: float | None = None

    def get(self, key: str) -> StateRecord | None:
        """Return the record, or None."""
        self._check_ready()
        return self._record_if_live(self._read(check_key(key)))

    def get_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys."""
        self._check_ready()
        wanted = list(dict.fromkeys(map(check_key, keys)))
        return self._live_of(wanted, self._read_many(wanted)) if wanted else {}

    def get_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record whose key begins with ``prefix``."""
        self._check_ready()
        return self._live_with(prefix, self._read_all(check_prefix(prefix)))

    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Store a value."""
        self._check_ready()
        rule = write_rule(key, if_absent, if_version)
        return self._written(self._new_rows({key: value}, expires_s), rule)[0]

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set several keys at once."""
        self._check_ready()
        rows = self._new_rows(values, expires_s)
        return self._written(rows, WriteRule()) if rows else []

    def put(self, record: StateRecord) -> None:
        """Store a record as it is."""
        self._check_ready()
        self._write([exact_row(record)], WriteRule(exact=True))

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record; return whether there was one."""
        self._check_ready()
        return self._remove(check_key(key), RemoveRule(self._clock(), if_version))

    def clear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix``."""
        self._check_ready()
        self._remove_all(check_prefix(prefix))

    def cleanup_expired(self, prefix: str = "") -> int:
        """Remove expired records; return how many there were."""
        self._check_ready()
        return self._remove_expired(self._clock(), check_prefix(prefix))

    @abstractmethod
    def _read(self, key: str) -> Row | None:
        """Return the row of a key, expired or not."""

    def _read_many(self, keys: Sequence[str]) -> Iterable[Row]:
        """Return the existing rows of several keys, expired or not, in any order."""
        return [row for row in map(self._read, keys) if row is not None]

    @abstractmethod
    def _read_all(self, prefix: str) -> Iterable[Row]:
        """Return at least every row whose key begins with ``prefix``, expired or not, in any order."""

    @abstractmethod
    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        """Store ``rule(row, stored)`` for each row, where ``stored`` is the one of its key; return them.

        There is at least one row. Let what the rule raises leave the method, with nothing written.
        """

    @abstractmethod
    def _remove(self, key: str, rule: RemoveRule) -> bool:
        """Remove the row of a key, if there is one; return ``rule(row)``. If that raises, remove nothing."""

    @abstractmethod
    def _remove_all(self, prefix: str) -> None:
        """Remove every row whose key begins with ``prefix``."""

    @abstractmethod
    def _remove_expired(self, now: float, prefix: str) -> int:
        """Remove the expired rows whose keys begin with ``prefix``; return how many there were."""

    def _new_rows(self, values: Mapping[str, Any], expires_s: float | None) -> list[Row]:
        now = self._clock()
        return [row_of(key, value, now=now, expires_s=expires_s) for key, value in values.items()]

    def _written(self, rows: Sequence[Row], rule: WriteRule) -> list[StateRecord]:
        records = [record_of(row) for row in self._write(rows, rule)]
        if self._cleanup_is_due():
            try:
                self._remove_expired(self._clock(), "")
            except StateError:
                _log.warning("%s: expired records could not be removed", self._name(), exc_info=True)
        return records

    def _cleanup_is_due(self) -> bool:
        if self._cleanup_every_s is None:
            return False
        now, cleaned_at = self._clock(), self._cleaned_at
        if cleaned_at is not None and 0 <= now - cleaned_at < self._cleanup_every_s:
            return False
        self._cleaned_at = now
        return True

    def _record_if_live(self, row: Row | None) -> StateRecord | None:
        return None if row is None or row.expired(self._clock()) else record_of(row)

    def _live_of(self, keys: Sequence[str], rows: Iterable[Row]) -> dict[str, StateRecord]:
        by_key, now = {row.key: row for row in rows}, self._clock()
        found = ((key, by_key.get(key)) for key in keys)
        return {key: record_of(row) for key, row in found if row is not None and not row.expired(now)}

    def _live_with(self, prefix: str, rows: Iterable[Row]) -> list[StateRecord]:
        found = sorted(row for row in rows if row.key.startswith(prefix))
        now = self._clock()
        return [record_of(row) for row in found if not row.expired(now)]


def write_rule(key: str, if_absent: bool, if_version: str | None) -> WriteRule:
    """Return the rule of a write; raises ``StateValueError`` for two conditions, or one of a wrong type."""
    if if_version is not None and not isinstance(if_version, str):
        raise StateValueError(
            key, "if_version", f"expected the version of a record, got {type(if_version).__name__}"
        )
    if if_absent and if_version is not None:
        raise StateValueError(key, "if_version", "expected either if_absent or if_version, got both")
    return WriteRule(if_absent=bool(if_absent), if_version=if_version)


def exact_row(record: StateRecord) -> Row:
    """Return the row of a record as it is; raises ``StateKeyError`` and ``StateValueError``."""
    key = check_key(record.key)
    for name in ("created_at", "updated_at", "expires_at"):
        _check_time(key, name, getattr(record, name))
    times = (record.created_at, record.updated_at, record.expires_at)
    return Row(key, json_of(key, record.value), *times, record.version or new_version())


def _check_time(key: str, name: str, at: Any) -> None:
    if at is None and name == "expires_at":
        return
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < float("inf"):
        raise StateValueError(key, name, f"expected seconds since the epoch, got {at!r}")
