"""Messages of one id: the later ones share the outcome of the first."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from rambla_py.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rambla_py.delivery import LiveDelivery
    from rambla_py.outbox.rows import Row
    from rambla_py.outcome import Status

__all__ = ["SameIds"]

_MOST_REMEMBERED: Final = 10_000
"""Each takes about 260 bytes."""
_TRIES: Final = 8


class SameIds:
    """Messages of an id that the application gave twice: the later ones, until the first has ended.

    ``remembers``: the first ones must be recorded with ``add``, because the journal does not tell which of
    them this process delivers. The last ``most`` stay in memory for as long as they wait, and those that
    others wait for; a repeat of another one is kept, like that of a first one elsewhere.
    """

    def __init__(self, *, remembers: bool, most: int = _MOST_REMEMBERED) -> None:
        self._remembers, self._most = remembers, most
        self._waiting: dict[tuple[str, str], list[LiveDelivery]] = {}
        # Those that have ended and are in the journal still: there, they look as if they waited.
        self._ended: dict[tuple[str, str], tuple[Status, Any, BaseException | None]] = {}
        # Reentrant: a signal handler may publish while its own thread holds it.
        self._lock = threading.RLock()

    def add(self, row: Row) -> None:
        """Record the first message of an id."""
        if self._remembers:
            with self._lock:
                self._waiting.setdefault((row.target, row.id), [])
                if len(self._waiting) > self._most:
                    self._forget_oldest()

    def _forget_oldest(self) -> None:
        for _ in range(_TRIES):
            place = next(iter(self._waiting))
            others = self._waiting.pop(place)
            if not others:
                return
            self._waiting[place] = others

    def settle_duplicate(self, delivery: LiveDelivery, row: Row, status: Status | None) -> None:
        """Let a message that is stored already share the outcome of the first one.

        ``status`` is what the journal has of that one. Called by the writer of the journal.
        """
        if status is not None:
            _settle_as(delivery, status, None, _first_ended_as(status))
            return
        place = (row.target, row.id)
        with self._lock:
            ended = self._ended.get(place)
            if ended is None:
                if row.share < 0 or (self._remembers and place not in self._waiting):
                    if delivery.receipt is not None:
                        delivery.receipt._keep(row.id)
                else:
                    self._waiting.setdefault(place, []).append(delivery)
                return
        _settle_as(delivery, *ended)

    def share_outcome(self, delivery: LiveDelivery, row: Row, status: Status) -> None:
        """Settle the messages that had the same id as one that has ended."""
        place, ended = (row.target, row.id), (status, delivery.result, delivery.error)
        with self._lock:
            if row.seq > 0:  # else it is not in the journal any more
                self._ended[place] = ended
            waiting = self._waiting.pop(place, [])
        for other in waiting:
            _settle_as(other, *ended)

    def removed(self, rows: Iterable[Row]) -> None:
        """Forget messages that are not in the journal any more; called by its writer."""
        for row in rows:
            if row.given_id:
                self._ended.pop((row.target, row.id), None)

    def keep_all(self) -> None:
        """Record that the messages that wait for an outcome stay in the outbox: the app has stopped."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for delivery in (one for others in waiting.values() for one in others):
            if delivery.receipt is not None:
                delivery.receipt._keep(delivery.id)


def _first_ended_as(status: Status) -> DeliveryError | None:
    return None if status == "ok" else DeliveryError(f"the first message with this id ended as {status}")


def _settle_as(delivery: LiveDelivery, status: Status, result: Any, error: BaseException | None) -> None:
    receipt = delivery.receipt
    delivery.end(status, error, time.monotonic())
    delivery.succeeded(result)
    delivery.release()
    if receipt is not None and receipt._settle(delivery):
        receipt._call_back()
