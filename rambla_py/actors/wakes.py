"""This module wakes workers, a few at a time, so that not all of their threads wait for the interpreter."""

from __future__ import annotations

from collections import deque
from typing import Protocol

__all__ = ["Wakes"]

_MOST = 8


class _Sleeper(Protocol):
    def rouse(self) -> None: ...


class Wakes:
    """Wakes workers, a few at a time: who begins its turn makes way for the next.

    A thousand threads that were woken and wait for the interpreter's lock keep both processor and lock busy
    with nothing but waiting: 90 microseconds a message. What a woken worker does then, waiting for a server
    included, is not limited. Nobody waits here, and no lock is taken; the methods may be called from any
    thread.
    """

    __slots__ = ("_due", "_woken")

    def __init__(self) -> None:
        self._due: deque[_Sleeper] = deque()
        self._woken: set[_Sleeper] = set()

    def wake(self, sleeper: _Sleeper) -> None:
        """Wake a worker now, or as soon as one of those woken before it has begun its turn."""
        if len(self._woken) < _MOST:
            self._woken.add(sleeper)
            sleeper.rouse()
            return
        self._due.append(sleeper)
        # All of them may have begun before they could see this one.
        if len(self._woken) < _MOST:
            self._next()

    def begun(self, sleeper: _Sleeper) -> None:
        """Take note that a worker runs, or never will."""
        self._woken.discard(sleeper)
        if self._due:
            self._next()

    def _next(self) -> None:
        try:
            sleeper = self._due.popleft()
        except IndexError:  # another was quicker
            return
        self._woken.add(sleeper)
        sleeper.rouse()
