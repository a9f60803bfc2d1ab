"""Suppression of repeated log lines."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Suppressed", "Repeats"]

KeyT = TypeVar("KeyT", bound=Hashable)


class Suppressed(NamedTuple, Generic[KeyT]):
    """How many lines of a key were suppressed, and in how many seconds."""

    key: KeyT
    number: int
    during_s: float


class _Window:
    __slots__ = ("began", "suppressed", "written")

    def __init__(self, began: float) -> None:
        self.began, self.written, self.suppressed = began, 0, 0


class Repeats(Generic[KeyT]):
    """Lets the first ``burst`` lines of a key through, and counts the others for ``interval_s`` seconds.

    ``add`` returns whether to write a line; ``due`` returns the suppressed ones as numbers. Thread-safe; the
    time is passed in.
    """

    def __init__(self, *, burst: int = 1, interval_s: float = 10.0) -> None:
        self._burst, self._interval_s = burst, interval_s
        self._windows: dict[KeyT, _Window] = {}
        # Reentrant: a signal handler may publish, and so log, while its own thread holds it.
        self._lock = threading.RLock()

    @property
    def waiting(self) -> bool:
        """Whether ``due`` has suppressed lines to return."""
        return any(window.suppressed for window in list(self._windows.values()))

    def add(self, key: KeyT, now: float) -> bool:
        """Return True if the line is to be written; otherwise count it."""
        with self._lock:
            window = self._windows.get(key)
            if window is None or (now - window.began >= self._interval_s and not window.suppressed):
                window = self._windows[key] = _Window(now)
            if window.written < self._burst:
                window.written += 1
                return True
            window.suppressed += 1
            return False

    def due(self, now: float, *, all_of_them: bool = False) -> list[Suppressed[KeyT]]:
        """Return what was suppressed in intervals that are over, or in all, and begin new ones."""
        with self._lock:
            over = {
                key: window
                for key, window in self._windows.items()
                if all_of_them or now - window.began >= self._interval_s
            }
            for key, window in over.items():
                del self._windows[key]
                if window.suppressed:
                    self._windows[key] = _silent(now, self._burst)
            return [
                Suppressed(key, window.suppressed, now - window.began)
                for key, window in over.items()
                if window.suppressed
            ]


def _silent(now: float, burst: int) -> _Window:
    """Return the interval after one with suppressed lines: it counts from the first line on."""
    window = _Window(now)
    window.written = burst
    return window
