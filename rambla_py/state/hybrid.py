"""A state store that caches a slow store in a fast one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from rambla_py.state.errors import StateQuotaError
from rambla_py.state.inner import InnerStore
from rambla_py.state.record import StateRecord, check_key, new_version
from rambla_py.state.store import StateStore

__all__ = ["HybridStore"]


class HybridStore(StateStore):
    """Reads from ``front``, which ``init()`` fills from ``back``; writes to both, ``back`` first.

    A record is the same in both, times and version included, so it expires in both at the same time. A write
    that the back refuses is not made in the front. Records that the front has no room for are read from the
    back. The store opens and closes both; ``init()`` removes what the front held before.

    What other processes write to the back becomes visible with ``refresh()`` only: do not use this class for
    a store that others write to. Conditions (``if_absent``, ``if_version``) are tested by the back.

    >>> from rambla_py.state import MemoryStore
    >>> back = MemoryStore()
    >>> with HybridStore(MemoryStore(), back) as store:
    ...     same = store.set("theme", "dark", expires_s=60) == back.get("theme")
    >>> same
    True
    """

    front = InnerStore()
    back = InnerStore()

    def __init__(self, front: StateStore, back: StateStore) -> None:
        super().__init__()
        self.front, self.back = front, back
        self._complete = False
        """Whether the front has every record of the back, so that a key it lacks does not exist."""
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

    def _close(self) -> None:
        with self._lock:
            self.front.close()
            self.back.close()

    def refresh(self) -> None:
        """Fill the front again with all that is in the back."""
        self._check_ready()
        with self._lock:
            self._load()

    def get(self, key: str) -> StateRecord | None:
        """Return the record from the front, or from the back if the front may lack it."""
        self._check_ready()
        found = self.front.get(key)
        if found is not None or self._complete:
            return found
        with self._lock:
            found = self.back.get(key)
            if found is not None:
                self._copy(found)
        return found

    def get_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys, from the front where it has all of them."""
        self._check_ready()
        keys = list(keys)
        return self.front.get_many(keys) if self._complete else self.back.get_many(keys)

    def get_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record whose key begins with ``prefix``, from the front where it has all records."""
        self._check_ready()
        return self.front.get_all(prefix) if self._complete else self.back.get_all(prefix)

    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Set in the back, then in the front."""
        self._check_ready()
        with self._lock, self._forgetting_on_failure(key):
            record = self.back.set(
                key, value, expires_s=expires_s, if_absent=if_absent, if_version=if_version
            )
            self._copy(record)
        return record

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set in the back, then in the front."""
        self._check_ready()
        with self._lock, self._forgetting_on_failure(*values):
            records = self.back.set_many(values, expires_s=expires_s)
            for record in records:
                self._copy(record)
        return records

    def put(self, record: StateRecord) -> None:
        """Store a record in both, as it is."""
        self._check_ready()
        with self._lock, self._forgetting_on_failure(record.key):
            if not record.version:  # both get the same
                record = msgspec.structs.replace(record, version=new_version())
            self.back.put(record)
            self._copy(record)

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record from both; return whether the back had one."""
        self._check_ready()
        with self._lock, self._forgetting_on_failure(key):
            found = self.back.delete(key, if_version=if_version)
            self.front.delete(key)
        return found

    def clear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix`` from both."""
        self._check_ready()
        with self._lock:
            was_complete, self._complete = self._complete, False
            # The front first: if the back fails half-way, records are read from the back.
            self.front.clear(prefix)
            self.back.clear(prefix)
            self._complete = was_complete or not prefix

    def cleanup_expired(self, prefix: str = "") -> int:
        """Remove expired records from both; return how many there were in the back."""
        self._check_ready()
        with self._lock:
            self.front.cleanup_expired(prefix)
            return self.back.cleanup_expired(prefix)

    def _check_ready(self) -> None:
        super()._check_ready()
        if self._owner != os.getpid():
            # A forked child: another thread of the parent may have been writing, and have held the lock.
            self._owner, self._lock, self._complete = os.getpid(), threading.RLock(), False

    def _load(self) -> None:
        self._complete = False
        self.front.clear()
        complete = True
        for record in self.back.get_all():
            complete = self._has_room_for(record) and complete
        self._complete = complete

    def _copy(self, record: StateRecord) -> None:
        if not self._has_room_for(record):
            self._complete = False
            self.front.delete(record.key)

    def _has_room_for(self, record: StateRecord) -> bool:
        """Put a record into the front; return whether it had room."""
        try:
            self.front.put(record)
        except StateQuotaError:
            return False
        return True

    @contextlib.contextmanager
    def _forgetting_on_failure(self, *keys: Any) -> Iterator[None]:
        """Remove the front's copies when a write fails: what the back has is unknown then."""
        known = [check_key(key) for key in keys]
        try:
            yield
        except BaseException:
            self._complete = False
            for key in known:
                self.front.delete(key)
            raise
