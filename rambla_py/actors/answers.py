"""This module holds what was answered about deliveries until a worker sees to it."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rambla_py.actors.session import Session
    from rambla_py.delivery import Delivery
    from rambla_py.receipt import Receipt

__all__ = ["Answers"]


class Answers:
    """What waits for a worker of a target, from any thread, without a lock.

    ``succeeded``: settled as delivered, one by one. ``handed_in``: an answer that has to be judged, and the
    session that it came from; whoever hands it in holds the claim on the delivery. ``after``: deliveries
    and receipts that ended, and have callbacks to run.
    """

    __slots__ = ("after", "handed_in", "succeeded")

    def __init__(self) -> None:
        self.succeeded: deque[Delivery] = deque()
        self.handed_in: deque[tuple[Session | None, Delivery, Any]] = deque()
        self.after: deque[Delivery | Receipt] = deque()

    @property
    def waiting(self) -> bool:
        """Whether there is something to see to."""
        return bool(self.succeeded or self.handed_in or self.after)

    @property
    def in_flight(self) -> int:
        """How many deliveries have an answer and no outcome yet."""
        return len(self.succeeded) + len(self.handed_in)

    def take_succeeded(self, limit: int) -> list[Delivery]:
        """Take up to ``limit`` of those that were settled as delivered."""
        succeeded = self.succeeded
        batch: list[Delivery] = []
        with contextlib.suppress(IndexError):
            while len(batch) < limit:
                batch.append(succeeded.popleft())
        return batch
