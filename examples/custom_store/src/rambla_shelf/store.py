"""A state store in one JSON file."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

from rambla_py.state import (
    RemoveRule,
    Row,
    RowStore,
    StateAccessError,
    StateCorruptError,
    StateUnavailableError,
    WriteRule,
)

__all__ = ["ShelfStore"]

_POLL_S = 0.005

Rows = dict[str, Row]


class ShelfStore(RowStore):
    """Keeps all records in the JSON file ``path``, with times in whole seconds.

    Threads and processes of one machine may share it: each method holds the file's lock, waits at most
    ``lock_timeout_s`` for it, and writes a new file that it moves into place.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lock_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock=lambda: math.floor(clock()))
        self.path = Path(path)
        self._lock_timeout_s = lock_timeout_s

    @classmethod
    def from_url(cls, url: str, **options: Any) -> ShelfStore:
        """Return the store of ``shelf:///from/the/root.json``."""
        path = unquote(url.partition("://")[2])
        if not path.startswith("/"):
            raise ValueError("a shelf url that names no file: write shelf:///from/the/root.json")
        return cls(path, **options)

    def _name(self) -> str:
        return f"ShelfStore({str(self.path)!r})"

    def _open(self) -> None:
        with self._mapped_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._changing():
            pass

    def _read(self, key: str) -> Row | None:
        return self._load().get(key)

    def _read_all(self, prefix: str) -> Iterable[Row]:
        return self._load().values()

    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        with self._changing() as stored:
            kept = {row.key: rule(_in_whole_seconds(row), stored.get(row.key)) for row in rows}
            stored.update(kept)
        return list(kept.values())

    def _remove(self, key: str, rule: RemoveRule) -> bool:
        with self._changing() as stored:
            found = rule(stored.get(key))
            stored.pop(key, None)
        return found

    def _remove_all(self, prefix: str) -> None:
        with self._changing() as stored:
            for key in [key for key in stored if key.startswith(prefix)]:
                del stored[key]

    def _remove_expired(self, now: float, prefix: str) -> int:
        with self._changing() as stored:
            gone = [key for key, row in stored.items() if row.expired(now) and key.startswith(prefix)]
            for key in gone:
                del stored[key]
        return len(gone)

    @contextmanager
    def _changing(self) -> Iterator[Rows]:
        """Yield all rows under the lock, and write them unless an error is raised."""
        with self._mapped_errors(), open(f"{self.path}.lock", "a") as lock:
            self._acquire(lock)
            rows = self._load()
            yield rows
            new = self.path.with_name(f"{self.path.name}.new")
            # Values stay JSON text inside JSON: no digit of a number is lost.
            new.write_text(json.dumps([[row.key, row.value.decode(), *row[2:]] for row in rows.values()]))
            new.replace(self.path)

    def _load(self) -> Rows:
        with self._mapped_errors():
            try:
                text = self.path.read_text()
            except FileNotFoundError:
                if not self.path.parent.is_dir():
                    raise
                return {}
        try:
            rows = [Row(key, value.encode(), *rest) for key, value, *rest in json.loads(text)]
        except (ValueError, TypeError) as error:
            raise StateCorruptError(str(self.path), str(error)) from error
        return {row.key: row for row in rows}

    def _acquire(self, lock: TextIO) -> None:
        end = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StateUnavailableError(self._name(), "another process holds the lock") from None
                time.sleep(_POLL_S)
            else:
                return

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise StateAccessError(self._name(), str(error)) from error
        except OSError as error:
            raise StateUnavailableError(self._name(), str(error), applied="unknown") from error


def _in_whole_seconds(row: Row) -> Row:
    """Return a row whose record does not expire before its time."""
    expires_at = None if row.expires_at is None else float(math.ceil(row.expires_at))
    return row._replace(expires_at=expires_at)
