"""Flushes that wait until the rows of others are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.outbox.feed import Feed

__all__ = ["ReadRequests"]

_Request = tuple["Feed", Callable[[], None]]


class ReadRequests:
    """Requests to be called once a look into the polled sources of a feed, begun later, has found the end.

    They are added by any thread; ``new``, ``begin`` and ``answer`` are for the thread that looks.
    """

    def __init__(self) -> None:
        self._new: deque[_Request] = deque()
        self._begun: deque[_Request] = deque()

    @property
    def new(self) -> int:
        """How many came since the last look began."""
        return len(self._new)

    @property
    def begun(self) -> bool:
        """Whether a look has not come to the end for some."""
        return bool(self._begun)

    def add(self, feed: Feed, read: Callable[[], None]) -> None:
        """Call ``read`` once all rows of a feed that are stored by now were handed out."""
        self._new.append((feed, read))

    def begin(self, number: int) -> None:
        """Record that a look begins for so many of the new ones."""
        with suppress(IndexError):  # they were given up
            for _ in range(number):
                self._begun.append(self._new[0])
                self._new.popleft()

    def answer(self) -> None:
        """Call those whose feeds were read to the end."""
        with suppress(IndexError):
            for _ in range(len(self._begun)):
                feed, read = self._begun.popleft()
                if feed.unread and not feed.target.state.closed:
                    self._begun.append((feed, read))
                else:
                    read()

    def give_up(self) -> None:
        """Call all of them: nothing is read any more."""
        for requests in (self._begun, self._new):
            with suppress(IndexError):
                while True:
                    requests.popleft()[1]()
