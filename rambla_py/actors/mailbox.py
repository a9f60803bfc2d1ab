"""This module keeps a target's waiting deliveries in the order in which workers may take them."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from rambla_py.policy import worker_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["ALONE_AFTER_LOSSES", "Mailbox"]

ALONE_AFTER_LOSSES = 2


class Mailbox:
    """What waits for the workers of one target; it outlives every actor, so their deaths lose nothing.

    Publishers append new deliveries to ``ready`` without a lock; all else is done under ``lock``. ``ready``
    is in the order of acceptance, so among those that share the channel's ``expires_s`` the oldest expires
    first; those with an ``expires_s`` of their own stand in ``_timed`` as well. The messages of a key stand
    in a lane: the first waits for its worker in ``_keyed``, the others in ``_lanes[key]`` until it has ended.
    """

    def __init__(self, *, workers: int, max_pending: int, expires_s: float | None) -> None:
        self.lock = threading.RLock()
        self.ready: deque[Delivery] = deque()
        self.room = max_pending
        self._max_pending = max_pending
        self._expires_s = expires_s
        self._urgent: deque[Delivery] = deque()
        self._returned: deque[Delivery] = deque()
        self._suspects: deque[Delivery] = deque()
        self._keyed: list[deque[Delivery]] = [deque() for _ in range(workers)]
        self._lanes: dict[str, deque[Delivery]] = {}
        self._parked: list[tuple[float, int, Delivery]] = []
        self._timed: list[tuple[float, int, Delivery]] = []
        self._apart = 0
        self._turn = 0
        self._ties = itertools.count()

    def __len__(self) -> int:
        return len(self.ready) + self._apart

    def __repr__(self) -> str:
        return f"Mailbox(waiting={len(self)}, parked={len(self._parked)}, lanes={len(self._lanes)})"

    @property
    def full(self) -> bool:
        """Whether ``max_pending`` deliveries wait."""
        return len(self.ready) >= self.room

    @property
    def parked(self) -> int:
        """How many wait for a time: retries and delays."""
        return len(self._parked)

    @property
    def mixed(self) -> bool:
        """Whether deliveries wait that do not share the channel's ``expires_s`` or place in the queue."""
        return self._apart > 0 or bool(self._timed)

    def oldest_at(self) -> float | None:
        """Return when the oldest of those that can be taken was accepted."""
        with self.lock:
            heads = [queue[0].accepted_at for queue in self._queues() if queue]
            return min(heads, default=None)

    def put(self, delivery: Delivery) -> None:
        """Take in a new delivery."""
        with self.lock:
            self._enter(delivery)

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Take back, ahead of the others and in their order, deliveries that are to be tried again."""
        with self.lock:
            for delivery in reversed(list(deliveries)):
                self._re_enter(delivery)

    def park(self, delivery: Delivery, due: float) -> None:
        """Keep a delivery until ``due``; a lane that it holds stays held."""
        with self.lock:
            heapq.heappush(self._parked, (due, next(self._ties), delivery))
            self._count_apart(1)

    def unpark(self, now: float) -> int:
        """Make those takeable whose time has come; return how many."""
        with self.lock:
            moved = 0
            while self._parked and self._parked[0][0] <= now:
                delivery = heapq.heappop(self._parked)[2]
                self._count_apart(-1)
                moved += 1
                if delivery.attempts or delivery.losses:
                    self._re_enter(delivery)
                else:
                    self._enter(delivery)
            return moved

    def take(self, worker: int, limit: int, *, alone_ok: bool) -> list[Delivery]:
        """Take up to ``limit`` deliveries for a worker.

        One that has to be sent alone is taken by itself, and only when ``alone_ok`` (nothing else is in
        flight on that worker); the worker gets nothing more until then.
        """
        with self.lock:
            if self._suspects:
                return self._take_suspect(alone_ok)
            taken = self._take_apart(worker, limit) if self._apart else []
            ready = self.ready
            taken += [ready.popleft() for _ in range(min(limit - len(taken), len(ready)))]
            return taken

    def takeable(self, worker: int) -> bool:
        """Say whether ``take`` may find something for a worker."""
        if self.ready:
            return True
        return bool(self._apart) and bool(
            self._returned or self._urgent or self._keyed[worker] or self._suspects
        )

    def release_lane(self, delivery: Delivery) -> None:
        """Let the next delivery of its key go; called once a delivery that ``holds_lane`` has ended."""
        with self.lock:
            key = cast(str, delivery.key)
            delivery.holds_lane = False
            lane = self._lanes.get(key)
            if lane:
                self._lead(lane.popleft())
            else:
                self._lanes.pop(key, None)

    def take_oldest(self) -> Delivery | None:
        """Take the oldest delivery that was never attempted, to make room; None when there is none."""
        with self.lock:
            queues = [self.ready, self._urgent, *self._keyed]
            fresh = [found for queue in queues if (found := next(_fresh(queue), None)) is not None]
            oldest = min(fresh, key=lambda delivery: delivery.accepted_at, default=None)
            if oldest is not None:
                self._remove(oldest)
            return oldest

    def take_expired(self, now: float) -> list[Delivery]:
        """Take those whose ``expires_at`` has come; parked ones are due before they expire, by the policy."""
        with self.lock:
            expired = self._expired_on_time(now)
            for queue in self._queues():
                while queue and _is_over(queue[0], now):
                    expired.append(queue[0])
                    self._remove(queue[0])
            return expired

    def next_due(self) -> float | None:
        """Return when the next parked delivery is due or one with an ``expires_s`` of its own expires."""
        with self.lock:
            heads = [heap[0][0] for heap in (self._parked, self._timed) if heap]
            return min(heads, default=None)

    def take_all(self) -> list[Delivery]:
        """Take everything, parked deliveries and lanes included, and forget the lanes."""
        with self.lock:
            waiting = [entry[2] for entry in self._parked]
            for queue in self._queues():
                waiting += [queue.popleft() for _ in range(len(queue))]
            self._lanes.clear()
            self._parked.clear()
            self._timed.clear()
            self._apart = 0
            self.room = self._max_pending
            return sorted(waiting, key=lambda delivery: delivery.accepted_at)

    def take_parked_after(self, time: float) -> list[Delivery]:
        """Take the parked deliveries that are due later than ``time``."""
        with self.lock:
            late = [entry for entry in self._parked if entry[0] > time]
            self._parked = [entry for entry in self._parked if entry[0] <= time]
            heapq.heapify(self._parked)
            self._count_apart(-len(late))
            return [entry[2] for entry in late]

    def oldest_seq(self) -> int | None:
        """Return the lowest sequence number that waits."""
        with self.lock:
            waiting = [delivery.seq for queue in self._queues() for delivery in _copy(queue)]
            waiting += [entry[2].seq for entry in self._parked]
            return min(waiting, default=None)

    def _queues(self) -> Iterator[deque[Delivery]]:
        yield self.ready
        yield self._urgent
        yield self._returned
        yield self._suspects
        yield from self._keyed
        yield from self._lanes.values()

    def _enter(self, delivery: Delivery) -> None:
        self._note_expiry(delivery)
        key = delivery.key
        if key is not None:
            lane = self._lanes.get(key)
            if lane is None:
                self._lanes[key] = deque()
                self._lead(delivery)
            else:
                lane.append(delivery)
        elif delivery.policy.priority == "high":
            self._urgent.append(delivery)
        else:
            self.ready.append(delivery)
            return
        self._count_apart(1)

    def _re_enter(self, delivery: Delivery) -> None:
        self._note_expiry(delivery)
        if delivery.losses >= ALONE_AFTER_LOSSES:
            self._suspects.appendleft(delivery)
        elif delivery.key is not None:
            self._keyed[worker_of(delivery.key, len(self._keyed))].appendleft(delivery)
        else:
            self._returned.appendleft(delivery)
        self._count_apart(1)

    def _lead(self, delivery: Delivery) -> None:
        delivery.holds_lane = True
        self._keyed[worker_of(cast(str, delivery.key), len(self._keyed))].append(delivery)

    def _take_apart(self, worker: int, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        self._move(self._returned, taken, limit)
        self._move(self._urgent, taken, limit)
        mine = self._keyed[worker]
        if mine:
            # Keyed and unkeyed share the batch; with an odd place they take turns, so that neither starves.
            self._turn ^= 1
            free = limit - len(taken)
            unkeyed = min(len(self.ready), (free + self._turn) // 2)
            self._move(mine, taken, limit - unkeyed)
        self._count_apart(-len(taken))
        return taken

    def _take_suspect(self, alone_ok: bool) -> list[Delivery]:
        if not alone_ok:
            return []
        self._count_apart(-1)
        return [self._suspects.popleft()]

    @staticmethod
    def _move(queue: deque[Delivery], taken: list[Delivery], limit: int) -> None:
        while queue and len(taken) < limit:
            taken.append(queue.popleft())

    def _remove(self, delivery: Delivery) -> bool:
        for queue in self._queues():
            if delivery in queue:
                queue.remove(delivery)
                if queue is not self.ready:
                    self._count_apart(-1)
                return True
        return False

    def _count_apart(self, by: int) -> None:
        self._apart += by
        self.room = self._max_pending - self._apart

    def _note_expiry(self, delivery: Delivery) -> None:
        expires_at = delivery.expires_at
        if expires_at is None or delivery.policy.expires_s == self._expires_s:
            return
        heapq.heappush(self._timed, (expires_at, next(self._ties), delivery))
        if len(self._timed) > 2 * len(self) + 64:
            self._forget_gone()

    def _forget_gone(self) -> None:
        """Drop the entries of deliveries that no longer wait: the heap stays as small as the mailbox."""
        waiting = {id(delivery) for queue in self._queues() for delivery in _copy(queue)}
        self._timed = [entry for entry in self._timed if id(entry[2]) in waiting]
        heapq.heapify(self._timed)

    def _expired_on_time(self, now: float) -> list[Delivery]:
        expired = []
        while self._timed and self._timed[0][0] <= now:
            delivery = heapq.heappop(self._timed)[2]
            if self._remove(delivery):
                expired.append(delivery)
        return expired


def _fresh(queue: deque[Delivery]) -> Iterator[Delivery]:
    return (delivery for delivery in _copy(queue) if not delivery.attempts and not delivery.losses)


def _copy(queue: deque[Delivery]) -> list[Delivery]:
    # Publishers append to `ready` without the lock, which a walk in Python would trip over; a copy made
    # by `list` is one step under the interpreter's lock unless the garbage collector cuts in.
    while True:
        try:
            return list(queue)
        except RuntimeError:
            continue


def _is_over(delivery: Delivery, now: float) -> bool:
    expires_at = delivery.expires_at
    return expires_at is not None and expires_at <= now
