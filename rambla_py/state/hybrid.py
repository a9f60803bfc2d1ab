"""This module keeps a copy of a slow store's records in a quick one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from rambla_py.state.errors import StateQuotaError
from rambla_py.state.record import StateRecord, check_key
from rambla_py.state.store import Part, StateStore

__all__ = ["HybridStore"]


class HybridStore(StateStore):
    """Reads from ``front``, which ``init()`` fills from ``back``; writes to both, ``back`` first.

    A record is the same in both, times included, so that it expires in both at the same moment. What the back
    refused is not in the front either. What the front has no room for is read from the back. It opens and
    closes both stores, and what the front held before is gone with ``init()``.

    What other processes write to the back is seen after ``refresh()`` only: give a store of which others are
    the writers no front.

    >>> from rambla_py.state import MemoryStore
    >>> back = MemoryStore()
    >>> with HybridStore(MemoryStore(), back) as store:
    ...     same = store.set("theme", "dark", expires_s=60) == back.get("theme")
    >>> same
    True
    """

    front = Part()
    back = Part()

    def __init__(self, front: StateStore, back: StateStore) -> None:
        super().__init__()
        self.front, self.back = front, back
        self._complete = False
        """Whether all of the back is in the front: only then a key that the front lacks is nowhere."""
        self._lock = threading.RLock()
        self._owner = os.getpid()

    def _name(self) -> str:
        return f"HybridStore({self.front._name()}, {self.back._name()})"

    def _open(self) -> None:
        with contextlib.ExitStack() as opened:
            for store in (self.back, self.front):
                store.init()
                opened.callback(store.close)
            self._load()
            opened.pop_all()

    def _shut(self) -> None:
        with self._lock:
            self.front.close()
            self.back.close()

    def refresh(self) -> None:
        """Fill the front anew with what is in the back."""
        self._check_ready()
        with self._lock:
            self._load()

    def get(self, key: str) -> StateRecord | None:
        """Return the record from the front; from the back where the front may lack it."""
        self._check_ready()
        found = self.front.get(key)
        if found is not None or self._complete:
            return found
        with self._lock:
            found = self.back.get(key)
            if found is not None:
                self._copy(found)
        return found

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set in the back, then in the front."""
        self._check_ready()
        with self._lock, self._in_doubt(*values):
            records = self.back.set_many(values, expires_s=expires_s)
            for record in records:
                self._copy(record)
        return records

    def put(self, record: StateRecord) -> None:
        """Keep a record in both, as it is."""
        self._check_ready()
        with self._lock, self._in_doubt(record.key):
            self.back.put(record)
            self._copy(record)

    def delete(self, key: str) -> bool:
        """Remove a record from both; say whether there was one in the back."""
        self._check_ready()
        with self._lock, self._in_doubt(key):
            found = self.back.delete(key)
            self.front.delete(key)
        return found

    def get_all(self) -> list[StateRecord]:
        """Return every record, from the front when all are there."""
        self._check_ready()
        return self.front.get_all() if self._complete else self.back.get_all()

    def clear(self) -> None:
        """Remove every record from both."""
        self._check_ready()
        with self._lock:
            self._complete = False
            # The front first: when the back fails in its midst, what is left is asked of the back.
            self.front.clear()
            self.back.clear()
            self._complete = True

    def cleanup_expired(self) -> int:
        """Free the room of expired records in both; return how many there were in the back."""
        self._check_ready()
        with self._lock:
            self.front.cleanup_expired()
            return self.back.cleanup_expired()

    def _check_ready(self) -> None:
        super()._check_ready()
        if self._owner != os.getpid():
            # A forked child: another thread may have been in the midst of a write, and held the lock.
            self._owner, self._lock, self._complete = os.getpid(), threading.RLock(), False

    def _load(self) -> None:
        self._complete = False
        self.front.clear()
        complete = True
        for record in self.back.get_all():
            complete = self._copied(record) and complete
        self._complete = complete

    def _copy(self, record: StateRecord) -> None:
        if not self._copied(record):
            self._complete = False
            self.front.delete(record.key)

    def _copied(self, record: StateRecord) -> bool:
        """Put a record into the front; say whether it had room."""
        try:
            self.front.put(record)
        except StateQuotaError:
            return False
        return True

    @contextlib.contextmanager
    def _in_doubt(self, *keys: Any) -> Iterator[None]:
        """Forget the front's copies when a write fails: nobody knows then what the back holds."""
        known = [check_key(key) for key in keys]
        try:
            yield
        except BaseException:
            self._complete = False
            for key in known:
                self.front.delete(key)
            raise
