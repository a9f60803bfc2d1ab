"""Messages of one id: the later ones share the outcome of the first."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from rambla_py.errors import DeliveryError

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outbox.rows import Row
    from rambla_py.outcome import Status

__all__ = ["SameIds"]


class SameIds:
    """The messages in memory whose id the application gave, each with those that have the same id."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[LiveDelivery]] = {}
        # Reentrant: a signal handler may publish while its own thread holds it.
        self._lock = threading.RLock()

    def add(self, row: Row) -> None:
        """Record the first message of an id."""
        with self._lock:
            self._waiting.setdefault((row.target, row.id), [])

    def settle_duplicate(self, delivery: LiveDelivery, row: Row, status: Status | None) -> None:
        """Let a message that is stored already share the outcome of the first one."""
        if status is None:
            with self._lock:
                waiting = self._waiting.get((row.target, row.id))
                if waiting is not None:
                    waiting.append(delivery)
                    return
            if delivery.receipt is not None:
                delivery.receipt._keep(row.id)
            return
        error = None if status == "ok" else DeliveryError(f"the first message with this id ended as {status}")
        _settle_as(delivery, status, None, error)

    def share_outcome(self, delivery: LiveDelivery, row: Row, status: Status) -> None:
        """Settle the messages that had the same id as one that has ended."""
        with self._lock:
            waiting = self._waiting.pop((row.target, row.id), [])
        for other in waiting:
            _settle_as(other, status, delivery.result, delivery.error)

    def keep_all(self) -> None:
        """Record that the messages that wait for an outcome stay in the outbox: the app has stopped."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for delivery in (one for others in waiting.values() for one in others):
            if delivery.receipt is not None:
                delivery.receipt._keep(delivery.id)


def _settle_as(delivery: LiveDelivery, status: Status, result: Any, error: BaseException | None) -> None:
    receipt = delivery.receipt
    delivery.end(status, error, time.monotonic())
    delivery.succeeded(result)
    delivery.release()
    if receipt is not None and receipt._settle(delivery):
        receipt._call_back()
