"""A state store in the memory of the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rambla_py._internal.fork_lock import fork_lock
from rambla_py._internal.named_objects import Named
from rambla_py.state.errors import StateQuotaError
from rambla_py.state.record import RemoveRule, Row, WriteRule
from rambla_py.state.rows import RowStore

__all__ = ["MemoryStore", "forget_memory"]


class _Rows:
    """Rows by key, which several stores may share."""

    def __init__(self, name: str = "") -> None:
        self.by_key: dict[str, Row] = {}
        self.size = 0
        self.lock = fork_lock()


_named_rows = Named(_Rows)


def forget_memory(name: str) -> None:
    """Forget the records of ``MemoryStore(name=...)``; stores that are open keep them."""
    _named_rows.forget(name)


class MemoryStore(RowStore):
    """Keeps records in memory, as JSON, until the process ends; ``close()`` does not lose them.

    Stores with the same ``name`` share their records, and so do a store and the one that it is ``beside``;
    any other has its own. ``max_records`` and ``max_bytes`` (keys and values) bound what is kept: a ``set``
    that would exceed them first removes expired records, and then raises ``StateQuotaError``.

    >>> with MemoryStore(max_records=1) as store:
    ...     record = store.set("theme", "dark")
    ...     store.get("theme").value
    'dark'
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        beside: MemoryStore | None = None,
        max_records: int | None = None,
        max_bytes: int | None = None,
        cleanup_every_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(cleanup_every_s=cleanup_every_s, clock=clock)
        own = _Rows() if name is None else _named_rows.get(name)
        self._rows: _Rows = own if beside is None else beside._rows
        self._max_records, self._max_bytes = max_records, max_bytes

    @classmethod
    def from_url(cls, url: str, **options: Any) -> MemoryStore:
        """Return the store of ``memory://name``, or of ``memory://``, which is not shared."""
        return cls(url.partition("://")[2] or None, **options)

    def _read(self, key: str) -> Row | None:
        return self._rows.by_key.get(key)

    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        shared = self._rows
        with shared.lock:
            kept = {row.key: rule(row, shared.by_key.get(row.key)) for row in rows}
            if self._excess(kept):
                self._drop_expired(self._clock(), "")
                if reason := self._excess(kept):
                    raise StateQuotaError(self._name(), reason)
            shared.size += self._growth(kept)
            shared.by_key.update(kept)
        return list(kept.values())

    def _remove(self, key: str, rule: RemoveRule) -> bool:
        with self._rows.lock:
            found = rule(self._rows.by_key.get(key))
            self._take(key)
        return found

    def _read_all(self, prefix: str) -> Iterable[Row]:
        with self._rows.lock:
            return list(self._rows.by_key.values())

    def _remove_all(self, prefix: str) -> None:
        with self._rows.lock:
            for key in [key for key in self._rows.by_key if key.startswith(prefix)]:
                self._take(key)

    def _remove_expired(self, now: float, prefix: str) -> int:
        with self._rows.lock:
            return self._drop_expired(now, prefix)

    def _take(self, key: str) -> Row | None:
        row = self._rows.by_key.pop(key, None)
        self._rows.size -= 0 if row is None else _size(row)
        return row

    def _drop_expired(self, now: float, prefix: str) -> int:
        rows = self._rows.by_key.items()
        gone = [key for key, row in rows if row.expired(now) and key.startswith(prefix)]
        for key in gone:
            self._take(key)
        return len(gone)

    def _growth(self, kept: dict[str, Row]) -> int:
        before = (self._rows.by_key.get(key) for key in kept)
        return sum(map(_size, kept.values())) - sum(_size(row) for row in before if row is not None)

    def _excess(self, kept: dict[str, Row]) -> str:
        """Return which bound would be exceeded, or an empty string."""
        number = len(self._rows.by_key) + sum(key not in self._rows.by_key for key in kept)
        if self._max_records is not None and number > self._max_records:
            return f"{number} records, where max_records is {self._max_records}"
        size = self._rows.size + self._growth(kept)
        if self._max_bytes is not None and size > self._max_bytes:
            return f"{size} bytes, where max_bytes is {self._max_bytes}"
        return ""


def _size(row: Row) -> int:
    return len(row.key.encode()) + len(row.value)
