"""This module keeps a target's waiting deliveries in the order in which workers may take them."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from rambla_py.policy import worker_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["ALONE_AFTER_LOSSES", "Mailbox"]

ALONE_AFTER_LOSSES = 2


class Mailbox:
    """What waits for the workers of one target; it outlives every actor, so their deaths lose nothing.

    ``ready`` is the plain case: new deliveries without a key, with the channel's own expiry and priority.
    Publishers append to it without a lock, and it is in the order of acceptance, so its oldest expires first.
    All else stands apart, under ``lock``: in a queue of its kind, and in ``_apart``, which says what of the
    queues still waits. Who leaves before his turn (expired, dropped) leaves ``_apart`` only, and is passed
    over when his turn comes, so that no queue is ever searched.

    The messages of a key stand in a lane: the first waits for its worker in ``_keyed``, the others in
    ``_lanes[key]`` until it has ended.
    """

    def __init__(self, *, workers: int, max_pending: int, expires_s: float | None) -> None:
        self.lock = threading.RLock()
        self.ready: deque[Delivery] = deque()
        self.room = max_pending
        self._max_pending = max_pending
        self._expires_s = expires_s
        self._apart: set[Delivery] = set()
        self._urgent: deque[Delivery] = deque()
        self._single: deque[Delivery] = deque()
        self._returned: deque[Delivery] = deque()
        self._suspects: deque[Delivery] = deque()
        self._keyed: list[deque[Delivery]] = [deque() for _ in range(workers)]
        self._lanes: dict[str, deque[Delivery]] = {}
        self._parked: list[tuple[float, int, Delivery]] = []
        self._expiries: list[tuple[float, int, Delivery]] = []
        self._arrivals: deque[Delivery] = deque()
        self._turn = 0
        self._ties = itertools.count()

    def __len__(self) -> int:
        return len(self.ready) + len(self._apart)

    def __repr__(self) -> str:
        return f"Mailbox(waiting={len(self)}, parked={len(self._parked)}, lanes={len(self._lanes)})"

    @property
    def full(self) -> bool:
        """Whether ``max_pending`` deliveries wait."""
        return len(self.ready) >= self.room

    @property
    def plain(self) -> bool:
        """Whether only plain deliveries wait, which expire in their order."""
        return not self._apart

    # -- in --------------------------------------------------------------------------------------------

    def put(self, delivery: Delivery) -> None:
        """Take in a new delivery that is not plain."""
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
            self._add_apart(delivery)
            heapq.heappush(self._parked, (due, next(self._ties), delivery))

    def unpark(self, now: float) -> list[Delivery]:
        """Make those takeable whose time has come, and return them."""
        with self.lock:
            due = []
            while self._parked and self._parked[0][0] <= now:
                delivery = heapq.heappop(self._parked)[2]
                if delivery not in self._apart:
                    continue
                due.append(delivery)
                if delivery.attempts or delivery.losses:
                    self._re_enter(delivery)
                else:
                    self._enter(delivery)
            return due

    def release_lane(self, delivery: Delivery) -> bool:
        """Let the next delivery of its key go; called once one that ``holds_lane`` has ended.

        Returns whether there was a next one.
        """
        with self.lock:
            key = cast(str, delivery.key)
            delivery.holds_lane = False
            lane = self._lanes.get(key)
            while lane:
                following = lane.popleft()
                if following in self._apart:
                    self._lead(following)
                    return True
            self._lanes.pop(key, None)
            return False

    # -- out -------------------------------------------------------------------------------------------

    def take(self, worker: int, limit: int, *, alone_ok: bool) -> list[Delivery]:
        """Take up to ``limit`` deliveries for a worker.

        One that has to be sent alone is taken by itself, and only when ``alone_ok`` (nothing else is in
        flight on that worker); the worker gets nothing more until then.
        """
        with self.lock:
            taken: list[Delivery] = []
            if self._apart:
                if self._clear_head(self._suspects):
                    return self._take_suspect() if alone_ok else []
                taken = self._take_apart(worker, limit)
            ready = self.ready
            for _ in range(min(limit - len(taken), len(ready))):
                taken.append(ready.popleft())
            return taken

    @property
    def empty(self) -> bool:
        """Whether nothing waits at all; without a lock, so whoever puts something in has to wake somebody."""
        return not (self.ready or self._apart)

    def takeable(self, worker: int, *, alone_ok: bool) -> bool:
        """Say whether ``take`` would find something for a worker."""
        if self.empty:
            return False
        with self.lock:
            if self._clear_head(self._suspects):
                return alone_ok
            queues = (self._returned, self._urgent, self._keyed[worker], self._single)
            return bool(self.ready) or any(self._clear_head(queue) for queue in queues)

    def take_oldest(self) -> Delivery | None:
        """Take the oldest delivery that was never attempted, to make room; None when there is none."""
        with self.lock:
            arrivals = self._arrivals
            while arrivals and (arrivals[0] not in self._apart or _attempted(arrivals[0])):
                arrivals.popleft()
            apart = arrivals[0] if arrivals else None
            if self.ready and (apart is None or self.ready[0].accepted_at <= apart.accepted_at):
                return self.ready.popleft()
            if apart is not None:
                self._leave(apart)
            return apart

    def take_expired(self, now: float) -> list[Delivery]:
        """Take those whose ``expires_at`` has come, wherever they wait."""
        with self.lock:
            expired = []
            while self._expiries and self._expiries[0][0] <= now:
                delivery = heapq.heappop(self._expiries)[2]
                if delivery in self._apart:
                    self._leave(delivery)
                    expired.append(delivery)
            if self._expires_s is not None:
                while self.ready and self.ready[0].accepted_at + self._expires_s <= now:
                    expired.append(self.ready.popleft())
            return expired

    def take_all(self) -> list[Delivery]:
        """Take everything, parked deliveries and lanes included, and forget the lanes."""
        with self.lock:
            waiting = [*self._apart, *(self.ready.popleft() for _ in range(len(self.ready)))]
            self._forget_apart()
            return sorted(waiting, key=lambda delivery: delivery.accepted_at)

    def take_parked_after(self, time: float) -> list[Delivery]:
        """Take the parked deliveries that are due later than ``time``."""
        with self.lock:
            late = [entry[2] for entry in self._parked if entry[0] > time and entry[2] in self._apart]
            for delivery in late:
                self._leave(delivery)
            return late

    # -- looking ---------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when the next parked delivery is due, or the next one apart expires."""
        with self.lock:
            heads = [heap[0][0] for heap in (self._parked, self._expiries) if heap]
            return min(heads, default=None)

    def oldest_at(self) -> float | None:
        """Return when the oldest delivery that waits for workers was accepted, so far as the heads show."""
        with self.lock:
            queues = (self.ready, self._urgent, self._single, self._returned, self._suspects, *self._keyed)
            return min((queue[0].accepted_at for queue in queues if queue), default=None)

    # -- inside, under the lock ------------------------------------------------------------------------

    def _enter(self, delivery: Delivery) -> None:
        self._add_apart(delivery)
        if delivery.key is not None:
            lane = self._lanes.get(delivery.key)
            if lane is None:
                self._lanes[delivery.key] = deque()
                self._lead(delivery)
            else:
                lane.append(delivery)
        elif delivery.policy.priority == "high":
            self._urgent.append(delivery)
        else:
            self._single.append(delivery)

    def _re_enter(self, delivery: Delivery) -> None:
        self._add_apart(delivery)
        if delivery.losses >= ALONE_AFTER_LOSSES:
            self._suspects.appendleft(delivery)
        elif delivery.key is not None:
            self._keyed[worker_of(delivery.key, len(self._keyed))].appendleft(delivery)
        else:
            self._returned.appendleft(delivery)

    def _lead(self, delivery: Delivery) -> None:
        delivery.holds_lane = True
        self._keyed[worker_of(cast(str, delivery.key), len(self._keyed))].append(delivery)

    def _add_apart(self, delivery: Delivery) -> None:
        if delivery not in self._apart:
            self._apart.add(delivery)
            if not _attempted(delivery):
                self._arrivals.append(delivery)
            expires_at = delivery.expires_at
            if expires_at is not None:
                heapq.heappush(self._expiries, (expires_at, next(self._ties), delivery))
            self._tidy()
        self.room = self._max_pending - len(self._apart)

    def _leave(self, delivery: Delivery) -> None:
        self._apart.discard(delivery)
        self.room = self._max_pending - len(self._apart)

    def _tidy(self) -> None:
        """Forget those that are gone, so that what is kept about them stays as small as the mailbox."""
        bound = 2 * len(self._apart) + 64
        if len(self._expiries) > bound:
            self._expiries = [entry for entry in self._expiries if entry[2] in self._apart]
            heapq.heapify(self._expiries)
        if len(self._parked) > bound:
            self._parked = [entry for entry in self._parked if entry[2] in self._apart]
            heapq.heapify(self._parked)
        if len(self._arrivals) > bound:
            self._arrivals = deque(
                one for one in self._arrivals if one in self._apart and not _attempted(one)
            )

    def _take_apart(self, worker: int, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        self._move(self._returned, taken, limit)
        self._move(self._urgent, taken, limit)
        mine = self._keyed[worker]
        if mine:
            # Keyed and unkeyed share the batch; with an odd place they take turns, so that neither starves.
            self._turn ^= 1
            unkeyed = min(len(self.ready) + len(self._single), (limit - len(taken) + self._turn) // 2)
            self._move(mine, taken, limit - unkeyed)
        self._move(self._single, taken, limit)
        self.room = self._max_pending - len(self._apart)
        return taken

    def _take_suspect(self) -> list[Delivery]:
        suspect = self._suspects.popleft()
        self._leave(suspect)
        return [suspect]

    def _move(self, queue: deque[Delivery], taken: list[Delivery], limit: int) -> None:
        while queue and len(taken) < limit:
            delivery = queue.popleft()
            if delivery in self._apart:
                self._apart.discard(delivery)
                taken.append(delivery)

    def _clear_head(self, queue: deque[Delivery]) -> bool:
        """Pass over those that are gone; say whether one is left."""
        while queue and queue[0] not in self._apart:
            queue.popleft()
        return bool(queue)

    def _forget_apart(self) -> None:
        queues = (self._urgent, self._single, self._returned, self._suspects, self._arrivals, *self._keyed)
        for queue in queues:
            queue.clear()
        for container in (self._apart, self._lanes, self._parked, self._expiries):
            container.clear()
        self.room = self._max_pending


def _attempted(delivery: Delivery) -> bool:
    return delivery.attempts > 0 or delivery.losses > 0
