"""Messages that are sent one after the other, so that none suffers from another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["InTurn"]


class InTurn:
    """Sends each delivery once the one before has its answer; those that wait have not begun. Thread-safe.

    ``send(delivery)`` hands one to the driver, and returns False if it has ended by that. ``answered`` is to
    be called with each answer.
    """

    def __init__(self, link: Link, send: Callable[[Delivery], bool]) -> None:
        self._link, self._send = link, send
        self._waiting: deque[Delivery] = deque()
        self._lock = threading.Lock()
        self._busy = self._closed = False

    def add(self, delivery: Delivery) -> None:
        """Send a delivery when its turn comes."""
        self._link.wait((delivery,))
        with self._lock:
            self._waiting.append(delivery)
            if self._busy:
                return
            self._busy = True
        self.answered()

    def answered(self) -> None:
        """Send the next one."""
        while (delivery := self._next()) is not None:
            if self._link.begin((delivery,)) and self._send(delivery):  # else it was taken back, or has ended
                return

    def close(self) -> None:
        """Send nothing more: what waits belongs to the next connection."""
        with self._lock:
            self._closed = True
            self._waiting.clear()

    def _next(self) -> Delivery | None:
        with self._lock:
            if self._waiting and not self._closed:
                return self._waiting.popleft()
            self._busy = False
            return None
