"""Answers and callbacks that wait for a worker to process them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.receipt import Receipt
    from rambla_py.runtime.target.in_flight import InFlight

__all__ = ["Settlements"]

Item = TypeVar("Item")


class Settlements:
    """Queues of one target that its workers process; filled from any thread, without a lock.

    ``succeeded``: deliveries that were settled as delivered, one by one. ``results``: other answers, with
    their connection; they carry the claim on the delivery. ``callbacks``: ended deliveries and receipts with
    callbacks to run.
    """

    __slots__ = ("callbacks", "results", "succeeded")

    def __init__(self) -> None:
        self.succeeded: deque[LiveDelivery] = deque()
        self.results: deque[tuple[InFlight | None, LiveDelivery, Any]] = deque()
        self.callbacks: deque[LiveDelivery | Receipt] = deque()

    @property
    def waiting(self) -> bool:
        """Whether something waits."""
        return bool(self.succeeded or self.results or self.callbacks)

    @property
    def in_flight(self) -> int:
        """How many deliveries have an answer but no outcome yet."""
        return len(self.succeeded) + len(self.results)

    def take_succeeded(self, limit: int) -> list[LiveDelivery]:
        """Take up to ``limit`` deliveries that were settled as delivered."""
        succeeded = self.succeeded
        batch: list[LiveDelivery] = []
        with contextlib.suppress(IndexError):
            while len(batch) < limit:
                batch.append(succeeded.popleft())
        return batch

    def each_result(self, limit: int) -> Iterator[tuple[InFlight | None, LiveDelivery, Any]]:
        """Yield up to ``limit`` other answers, taken one at a time: other workers can take the rest."""
        return _taken(self.results, limit)

    def each_callback(self, limit: int) -> Iterator[LiveDelivery | Receipt]:
        """Yield up to ``limit`` of what has callbacks to run, taken one at a time."""
        return _taken(self.callbacks, limit)


def _taken(queue: deque[Item], limit: int) -> Iterator[Item]:
    for _ in range(limit):
        try:
            item = queue.popleft()
        except IndexError:
            return
        yield item
