"""Hand-over of deliveries to the fallback of their channel."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rambla_py.errors import DroppedError
from rambla_py.receipt import DurableReceipt, Home, Receipt

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outcome import Outcome, Status
    from rambla_py.runtime.target.target import Target

__all__ = ["ContinuingSink", "FallbackSink"]


class FallbackSink:
    """An end sink that publishes deliveries to fallback channels, and proceeds once they have ended there.

    ``channels`` are tried in order; each is a sequence of targets. ``on`` are the statuses that are handed
    over, except for deliveries that were dropped because their channel is disabled, and for stored ones whose
    payload cannot be read. ``list_of`` is the target that lists the channels: the primary, or the one that
    handed over to it.
    """

    def __init__(
        self,
        primary: Target,
        channels: Sequence[Sequence[Target]],
        on: Collection[Status],
        home: Home,
        *,
        list_of: str,
    ) -> None:
        *earlier, last = channels
        self._channels = [_FallbackChannel(primary, targets, list_of) for targets in earlier]
        self._channels.append(_FallbackChannel(primary, last, None))
        self._on, self._home, self._primary = frozenset(on), home, primary
        # A stored fallback that waits in the outbox refers to its receipt weakly.
        self._open: set[Receipt] = set()

    def __call__(self, delivery: LiveDelivery, proceed: Callable[[], None]) -> None:
        reason = delivery.error.reason if isinstance(delivery.error, DroppedError) else None
        readable = delivery.stored is None or delivery.stored.readable
        if delivery.status not in self._on or reason == "disabled" or not readable:
            proceed()
            return
        # A delivery dropped for want of room holds no place in this mailbox, so it cannot wait for another.
        if not self._send(delivery, [], proceed, may_wait=reason != "mailbox full"):
            proceed()

    def _send(
        self, delivery: LiveDelivery, before: list[Outcome], proceed: Callable[[], None], *, may_wait: bool
    ) -> bool:
        """Publish to the next fallback channel; return False if it has no room and it may not wait."""
        channel = self._channels[len(before)]
        receipt = DurableReceipt._expecting(self._home, 1, len(channel.targets), many=False)
        self._open.add(receipt)

        def ended() -> None:
            self._open.discard(receipt)
            if receipt._ended is None:
                self._primary.completion.leave(delivery)
                return
            outcomes = receipt.outcomes()
            ends = [*before, next((one for one in outcomes if not one.succeeded), outcomes[0])]
            # With a row of its own, it has gone on to the next channel by itself.
            ended_here = ends[-1].fallback is None and ends[-1].status in self._on
            again = ended_here and len(ends) < len(self._channels)
            if not (again and self._send(delivery, ends, proceed, may_wait=True)):
                delivery.handed_over(_chained(ends))
                proceed()

        receipt._when_done(ended)
        sent = channel.send(_HandOver(delivery, receipt), may_wait=may_wait)
        if not sent:
            self._open.discard(receipt)
        return sent


class ContinuingSink:
    """An end sink of a target that is in the list of another one, ``list_of``, for what came from there.

    A delivery with a row of its own continues the list itself, because another run may have begun with it;
    ``rest`` hands over to the channels that follow.
    """

    def __init__(self, list_of: str, rest: FallbackSink) -> None:
        self._list_of, self._rest = list_of, rest

    def __call__(self, delivery: LiveDelivery, proceed: Callable[[], None]) -> None:
        if delivery.stored is not None and delivery.stored.fallback_of == self._list_of:
            self._rest(delivery, proceed)
        else:
            proceed()


class _HandOver(NamedTuple):
    delivery: LiveDelivery
    receipt: Receipt


class _FallbackChannel:
    """One fallback channel, with the deliveries that wait for room there.

    A waiting delivery keeps its place in the primary's mailbox, so that back-pressure reaches publishers.
    ``list_of`` is the target whose list continues after this channel; None for the last one.
    """

    def __init__(self, primary: Target, targets: Sequence[Target], list_of: str | None) -> None:
        self.targets = targets
        self._primary, self._list_of = primary, list_of
        self._lock = threading.RLock()
        self._waiting: deque[_HandOver] = deque()
        self._watched: set[Target] = set()
        self._sending = False

    def send(self, item: _HandOver, *, may_wait: bool) -> bool:
        """Hand over now, or once there is room; False if there is none and it may not wait."""
        with self._lock:
            if self._waiting or not self._has_room():
                if not may_wait:
                    return False
                self._waiting.append(item)
                self._primary.mailbox.lend(1)
                item = None  # type: ignore[assignment]  # sent in order, from the queue
        if item is None:
            self._send_waiting()
        else:
            self._admit(item)
        return True

    def _send_waiting(self) -> None:
        """Hand over waiting deliveries while there is room; one thread at a time."""
        with self._lock:
            if self._sending:
                return
            self._sending = True
        while (item := self._next()) is not None:
            self._admit(item)
            self._primary.mailbox.lend(-1)
            self._primary.backpressure.offer()
        for target in self.targets:
            self._watch_room(target)

    def _next(self) -> _HandOver | None:
        with self._lock:
            if self._waiting and self._has_room():
                return self._waiting.popleft()
            self._sending = False
            return None

    def _watch_room(self, target: Target) -> None:
        """Continue once a full target has room again."""
        with self._lock:
            if not self._waiting or target in self._watched or _has_room(target):
                return
            self._watched.add(target)
        target.backpressure.when_free(functools.partial(self._freed, target))

    def _freed(self, target: Target) -> None:
        with self._lock:
            self._watched.discard(target)
        self._send_waiting()

    def _has_room(self) -> bool:
        return all(map(_has_room, self.targets))

    def _admit(self, item: _HandOver) -> None:
        awaited = self._primary.awaits(item.delivery)
        if not self._stored(item):
            for target, fallback in zip(self.targets, self._fallbacks(item), strict=True):
                target.admission.admit(fallback)
        if awaited:
            for target in self.targets:
                target.gathering.release()

    def _stored(self, item: _HandOver) -> bool:
        """Store the fallbacks if all of their targets are durable; return whether they are stored.

        With another channel to try, those of several targets are not: it is tried once if some of them fail.
        """
        durability = self.targets[0].durability
        if durability is None or any(target.durability is None for target in self.targets):
            return False
        if self._list_of is not None and len(self.targets) > 1:
            return False
        return durability.hand_over(item.delivery, self._fallbacks(item), self._list_of)

    def _fallbacks(self, item: _HandOver) -> list[LiveDelivery]:
        return [
            target.admission.drafts.for_fallback(item.delivery, item.receipt, slot)
            for slot, target in enumerate(self.targets)
        ]


def _has_room(target: Target) -> bool:
    return target.state.closed or not (target.config.enabled and target.mailbox.full)


def _chained(ends: Sequence[Outcome]) -> Outcome:
    """Return the first of several outcomes; each has the next one as its ``fallback``."""
    *earlier, outcome = ends
    for one in reversed(earlier):
        outcome = msgspec.structs.replace(one, fallback=outcome)
    return outcome
