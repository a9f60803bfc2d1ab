"""The account of a tracker: every event it was given, by how it ended."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from rambla_py.delivery import Delivery, LiveDelivery
from rambla_py.errors import DroppedError
from rambla_py.outcome import Status
from rambla_py.telemetry.observer import ConnectionState, ObservedTarget

__all__ = ["Account", "Tally", "TrackerAudit"]


class TrackerAudit(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one tracker in this process: tracked = refused + sampled + delivered + lost + pending.

    ``refused``: not published, because a field was wrong or consent was missing. ``sampled``: left out by
    the sample. ``lost``: neither delivered nor pending. ``reasons`` counts refused and lost events, such as
    ``"mailbox full"`` or ``"refused: payment_currency"``. Exact once nothing moves, as after ``flush``.
    """

    tracked: int
    refused: int
    sampled: int
    delivered: int
    lost: int
    pending: int
    reasons: dict[str, int]


class Tally:
    """A count to which any thread adds without a lock, by ``next(tally.numbers)``.

    ``next`` on it is atomic, and needs no room on the stack.
    """

    __slots__ = ("_reads", "numbers")

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self._reads = 0

    def read(self) -> int:
        """Return the count; by one thread at a time."""
        count = next(self.numbers) - self._reads
        self._reads += 1
        return count


class _Parts:
    """The deliveries of one event that has several: how many have not ended, and why one was lost."""

    __slots__ = ("left", "reason")

    def __init__(self, left: int) -> None:
        self.left = left
        self.reason: str | None = None


Notify = Callable[[str, int, BaseException | None], None]
"""Called with why events were lost or refused, how many, and the error if there is one."""


class Account:
    """Counts the events of one tracker; the app calls it as an ``Observer``.

    ``channels`` are those that the tracker publishes to. Deliveries of others on them are left out if their
    payload is no event.
    """

    def __init__(self, channels: Container[str], notify: Notify) -> None:
        self._channels, self._notify = channels, notify
        self.reset()

    def reset(self) -> None:
        """Count from zero: in a forked child, what was tracked before belongs to the parent."""
        # Reentrant: a finalizer may track while its own thread is in here.
        self._lock = threading.RLock()
        self.tracked, self.sampled, self.accepted = Tally(), Tally(), Tally()
        self.overflowed = Tally()
        """Events refused for want of room on the stack, where there is none to count them otherwise."""
        self.doubtful: dict[int, dict[str, Any]] = {}
        """Events by identity whose publish met the end of the stack: lost, unless they end otherwise."""
        self._refused = self._delivered = self._lost = 0
        self._reasons: dict[str, int] = {}
        self._parts: dict[str, _Parts] = {}

    def refuse(self, reason: str, error: BaseException | None = None) -> None:
        """Count an event that is not published."""
        with self._lock:
            self._refused += 1
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        with suppress(RecursionError):
            self._notify(reason, 1, error)

    def report(self, error: BaseException) -> None:
        """Report an error by which no event is lost."""
        with suppress(RecursionError):
            self._notify(type(error).__name__, 0, error)

    def lose(self, reason: str, error: BaseException | None = None, number: int = 1) -> None:
        """Count accepted events that were lost."""
        with self._lock:
            self._lost += number
            self._reasons[reason] = self._reasons.get(reason, 0) + number
        with suppress(RecursionError):
            self._notify(reason, number, error)

    def expect_parts(self, event_id: str, number: int) -> None:
        """Expect so many deliveries of one event."""
        with self._lock:
            self._parts[event_id] = _Parts(number)

    def lose_part(self, event_id: str, reason: str, error: BaseException | None, number: int = 1) -> None:
        """Count deliveries of an event that were lost before they were accepted."""
        for _ in range(number):
            self._end_part(event_id, reason, error)

    def ended(self, target: ObservedTarget, deliveries: Sequence[LiveDelivery[Any]], status: Status) -> None:
        """Count deliveries that ended; called once a batch."""
        if target.channel not in self._channels:
            return
        # Events, and no fallbacks of other deliveries. In place, because a call for each event costs.
        ours = [
            one
            for one in deliveries
            if type(one.payload) is dict
            and "event_action" in one.payload
            and (one.history is None or one.origin is None)
        ]
        if self.doubtful:
            for one in ours:
                self.doubtful.pop(id(one.payload), None)
        if self._parts:
            ours = [one for one in ours if not self._ended_part(one, status)]
        if status == "ok":
            with self._lock:
                self._delivered += len(ours)
            return
        for one in ours:
            reason = _reason(one, status)
            if reason is None:
                with self._lock:
                    self._delivered += 1
            else:
                self.lose(reason, _error(one))

    def connection(
        self, target: ObservedTarget, worker: int, state: ConnectionState, error: BaseException | None
    ) -> None:
        """Report an error of the connection; no event is lost by it yet."""
        if error is not None and target.channel in self._channels:
            self._notify(f"{target.name}: {state}", 0, error)

    def audit(self) -> TrackerAudit:
        """Return the account."""
        with self._lock:
            # In this order: an event that is tracked meanwhile is pending at most.
            ended = self._refused, self.sampled.read(), self._delivered, self._lost
            accepted, tracked = self.accepted.read(), self.tracked.read()
            refused, sampled, delivered, lost = ended
            reasons = dict(self._reasons)
            if overflowed := self.overflowed.read():
                refused, reasons["refused: RecursionError"] = refused + overflowed, overflowed
            if doubtful := len(self.doubtful):
                lost, reasons["error: RecursionError"] = lost + doubtful, doubtful
            return TrackerAudit(
                tracked=tracked,
                refused=refused,
                sampled=sampled,
                delivered=delivered,
                lost=lost,
                pending=accepted - delivered - lost,
                reasons=reasons,
            )

    def _ended_part(self, delivery: Delivery[Any], status: Status) -> bool:
        event_id = delivery.id
        if event_id not in self._parts:
            return False
        self._end_part(event_id, None if status == "ok" else _reason(delivery, status), _error(delivery))
        return True

    def _end_part(self, event_id: str, reason: str | None, error: BaseException | None) -> None:
        with self._lock:
            parts = self._parts[event_id]
            parts.left -= 1
            parts.reason = parts.reason or reason
            if parts.left:
                return
            del self._parts[event_id]
            if parts.reason is None:
                self._delivered += 1
                return
        self.lose(parts.reason, error)


def _reason(delivery: Any, status: Status) -> str | None:
    """Return why a delivery was lost; None if its fallback delivered it."""
    fallback = delivery.fallback
    if fallback is not None and fallback.status == "ok":
        return None
    if status == "expired":
        return "expired"
    error = delivery.error
    if isinstance(error, DroppedError):
        return error.reason
    return status if error is None else f"{status}: {type(error).__name__}"


def _error(delivery: Any) -> BaseException | None:
    error: BaseException | None = delivery.error
    return error
