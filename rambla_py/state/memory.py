"""This module keeps records in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from rambla_py.named import Named
from rambla_py.state.errors import StateQuotaError
from rambla_py.state.forks import ForkLock
from rambla_py.state.record import Row
from rambla_py.state.rows import RowStore

__all__ = ["MemoryStore", "forget_memory"]


class _Shelf:
    """Rows that several stores of one name share."""

    def __init__(self, name: str = "") -> None:
        self.rows: dict[str, Row] = {}
        self.size = 0
        self.lock = ForkLock()


_shelves = Named(_Shelf)


def forget_memory(name: str) -> None:
    """Let go of the records of ``MemoryStore(name=...)``; stores that are open keep them."""
    _shelves.forget(name)


class MemoryStore(RowStore):
    """Keeps records in memory, as JSON, until the process ends; ``close()`` does not lose them.

    Stores with the same ``name`` share their records, and so does one with the store that it is ``beside``;
    any other has its own. ``max_records`` and ``max_bytes`` (keys and values) bound what is kept: beyond them
    ``set`` raises ``StateQuotaError``, after expired records have made room.

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock=clock)
        own = _Shelf() if name is None else _shelves.get(name)
        self._shelf: _Shelf = own if beside is None else beside._shelf
        self._max_records, self._max_bytes = max_records, max_bytes

    def _read(self, key: str) -> Row | None:
        return self._shelf.rows.get(key)

    def _write(self, rows: Sequence[Row], *, exact: bool) -> Sequence[Row]:
        shelf = self._shelf
        with shelf.lock:
            kept = {row.key: row if exact else row.since(shelf.rows.get(row.key)) for row in rows}
            if self._excess(kept):
                self._drop_expired(self._clock())
                if reason := self._excess(kept):
                    raise StateQuotaError(self._name(), reason)
            shelf.size += self._growth(kept)
            shelf.rows.update(kept)
        return list(kept.values())

    def _remove(self, key: str, now: float) -> bool:
        with self._shelf.lock:
            row = self._take(key)
        return row is not None and not row.expired(now)

    def _read_all(self) -> Iterable[Row]:
        with self._shelf.lock:
            return list(self._shelf.rows.values())

    def _wipe(self) -> None:
        with self._shelf.lock:
            self._shelf.rows.clear()
            self._shelf.size = 0

    def _sweep(self, now: float) -> int:
        with self._shelf.lock:
            return self._drop_expired(now)

    def _take(self, key: str) -> Row | None:
        row = self._shelf.rows.pop(key, None)
        self._shelf.size -= 0 if row is None else _size(row)
        return row

    def _drop_expired(self, now: float) -> int:
        gone = [key for key, row in self._shelf.rows.items() if row.expired(now)]
        for key in gone:
            self._take(key)
        return len(gone)

    def _growth(self, kept: dict[str, Row]) -> int:
        before = (self._shelf.rows.get(key) for key in kept)
        return sum(map(_size, kept.values())) - sum(_size(row) for row in before if row is not None)

    def _excess(self, kept: dict[str, Row]) -> str:
        """Return what of the bounds would be exceeded, or nothing."""
        number = len(self._shelf.rows) + sum(key not in self._shelf.rows for key in kept)
        if self._max_records is not None and number > self._max_records:
            return f"{number} records, where max_records is {self._max_records}"
        size = self._shelf.size + self._growth(kept)
        if self._max_bytes is not None and size > self._max_bytes:
            return f"{size} bytes, where max_bytes is {self._max_bytes}"
        return ""


def _size(row: Row) -> int:
    return len(row.key.encode()) + len(row.value)
