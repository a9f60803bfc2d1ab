"""Sorted queues of a mailbox: lanes, priorities, retries, suspects, probes, parked deliveries."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from rambla_py.runtime.target.expiries import Expiries
from rambla_py.runtime.target.isolation import is_suspect, was_alone
from rambla_py.runtime.target.lanes import Lanes

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["SortedQueues", "was_attempted"]

_NORMAL_SHARE = 10
_NEVER = float("inf")


class SortedQueues:
    """The deliveries of a mailbox that have been sorted, each in a queue of its kind and in ``waiting``.

    Removal is lazy: a delivery that expired or was dropped leaves only ``waiting``; queues skip it when they
    reach it, and drop such entries once they outnumber the waiting deliveries (``_removed`` counts them).
    ``arrivals`` has new deliveries in the order of acceptance, with ``keep_arrivals`` only. Not thread-safe
    by itself: the mailbox holds its lock.
    """

    def __init__(self, *, workers: int, keep_arrivals: bool, runs: bool = False) -> None:
        self.waiting: set[LiveDelivery] = set()
        self.high: deque[LiveDelivery] = deque()
        self.normal: deque[LiveDelivery] = deque()
        self.returned: deque[LiveDelivery] = deque()
        self.suspects: deque[LiveDelivery] = deque()
        self.probes: deque[LiveDelivery] = deque()
        self.arrivals: deque[LiveDelivery] = deque()
        self.lanes = Lanes(workers, self.waiting, runs=runs)
        self.expiries = Expiries(self.waiting)
        self.parked: list[tuple[float, int, LiveDelivery]] = []
        self._all = (
            *(self.high, self.normal, self.returned, self.suspects, self.probes),
            *self.lanes.heads,
        )
        self._keep_arrivals = keep_arrivals
        self._removed = 0
        self._odd_place = 0
        self._share_credit = 0
        self._ties = itertools.count()

    # -- adding ----------------------------------------------------------------------------------------

    def sort(self, arrived: deque[LiveDelivery]) -> None:
        """Move the new deliveries of ``arrived`` into the queues."""
        # This loop is most of the cost of an option, so it calls little.
        add, popleft, behind, join = self.waiting.add, arrived.popleft, self.lanes.behind, self.lanes.add
        keep, policy = self._keep_arrivals, None
        while arrived:
            delivery = arrived[0]  # in both places for a moment, so that a concurrent count misses none
            add(delivery)
            popleft()
            if keep:
                self.arrivals.append(delivery)
            if delivery.policy is not policy:
                policy = delivery.policy
                expire = self.expiries.appender(policy.expires_s)
                enqueue = (self.high if policy.priority == "high" else self.normal).append
            if expire is not None:
                expire(delivery)
            key = delivery.key
            if key is None:
                enqueue(delivery)
            elif lane := behind.get(key):
                lane.append(delivery)
            else:
                join(delivery)
        self._compact()

    def add(self, delivery: LiveDelivery) -> None:
        """Add a delivery to ``waiting``, in no queue yet."""
        if delivery not in self.waiting:
            self.waiting.add(delivery)
            if self._keep_arrivals and not was_attempted(delivery):
                self.arrivals.append(delivery)
            self.expiries.add(delivery)
            self._compact()

    def add_in_front(self, delivery: LiveDelivery) -> None:
        """Add a delivery ahead of the others of its kind."""
        self.add(delivery)
        if is_suspect(delivery):
            # A suspect that was alone at its loss is to blame: it goes behind those that may be innocent.
            (self.suspects.append if was_alone(delivery) else self.suspects.appendleft)(delivery)
        elif delivery.holds_lane:
            self.lanes.add_head(delivery)
        elif delivery.key is not None:
            self.lanes.add_behind_head(delivery)
        else:
            self.returned.appendleft(delivery)

    def park(self, delivery: LiveDelivery, due: float) -> None:
        """Hold a delivery until ``due``; if it holds a lane, it keeps it."""
        self.add(delivery)
        heapq.heappush(self.parked, (due, next(self._ties), delivery))
        if was_attempted(delivery):
            self.lanes.retry_later(delivery)
        elif delivery.key is not None and not delivery.holds_lane:
            self.lanes.delay(delivery)

    def unpark(self, now: float) -> list[LiveDelivery]:
        """Queue the parked deliveries that are due, and return them."""
        due = []
        while self.parked and self.parked[0][0] <= now:
            delivery = heapq.heappop(self.parked)[2]
            if delivery not in self.waiting:
                continue
            due.append(delivery)
            if was_attempted(delivery) or delivery.holds_lane:
                self.add_in_front(delivery)
            elif delivery.key is not None:
                self.lanes.add(delivery)
            else:
                (self.high if delivery.policy.priority == "high" else self.normal).append(delivery)
        return due

    # -- taking ----------------------------------------------------------------------------------------

    def take(self, worker: int, limit: int, *, plain: int) -> list[LiveDelivery]:
        """Take up to ``limit`` deliveries for a worker; ``plain`` others wait outside of these queues."""
        taken: list[LiveDelivery] = []
        self._move(self.returned, taken, limit)
        heads = self.lanes.heads[worker]
        if self.high:
            others = plain + len(self.normal) + len(heads)
            self._move(self.high, taken, limit - self._normal_share(others, limit - len(taken)))
        if heads:
            # Keyed and unkeyed share the batch; they alternate in an odd place, so that neither starves.
            self._odd_place ^= 1
            unkeyed = min(plain + len(self.normal), (limit - len(taken) + self._odd_place) // 2)
            self.lanes.take(heads, taken, limit - unkeyed)
        self._move(self.normal, taken, limit)
        self._drop_stale()
        return taken

    def take_probe(self) -> list[LiveDelivery]:
        """Take the next probe, if there is one."""
        taken: list[LiveDelivery] = []
        self._move(self.probes, taken, 1)
        self._drop_stale()
        return taken

    def take_suspect(self) -> list[LiveDelivery]:
        """Take the next suspect by itself; there must be one."""
        suspect = self.suspects.popleft()
        self.remove(suspect)
        suspect.past().in_group(1)
        return [suspect]

    def take_next(self) -> LiveDelivery | None:
        """Take the next delivery of any worker; it stays in ``waiting``."""
        for queue in (self.returned, self.high, *self.lanes.heads, self.normal):
            if self.skip_removed(queue):
                return queue.popleft()
        return None

    def next_suspect(self) -> LiveDelivery | None:
        """Take the next suspect as a probe, to be tried alone; it stays in ``waiting``."""
        if not self.skip_removed(self.suspects):
            return None
        suspect = self.suspects.popleft()
        suspect.past().in_group(1)
        return suspect

    def has_probe(self, *, alone_ok: bool) -> bool:
        """Return whether a probe waits that may be sent now: a suspect only alone."""
        return self.skip_removed(self.probes) and (alone_ok or not is_suspect(self.probes[0]))

    def oldest_arrival(self) -> LiveDelivery | None:
        """Return the oldest delivery that was never attempted."""
        arrivals = self.arrivals
        while arrivals and (arrivals[0] not in self.waiting or was_attempted(arrivals[0])):
            arrivals.popleft()
        return arrivals[0] if arrivals else None

    def parked_after(self, time: float) -> list[LiveDelivery]:
        """Return the parked deliveries that are due later than ``time``."""
        return [entry[2] for entry in self.parked if entry[0] > time and entry[2] in self.waiting]

    def remove(self, delivery: LiveDelivery) -> None:
        """Remove a delivery from wherever it waits."""
        self.waiting.discard(delivery)
        if delivery.key is not None:
            self.lanes.remove(delivery)
        self._removed += 1
        self._drop_stale()

    def clear(self) -> None:
        """Remove everything."""
        self.waiting.clear()
        self.lanes.clear()
        self._drop_stale()

    # -- inspection ------------------------------------------------------------------------------------

    def has_for(self, worker: int) -> bool:
        """Return whether ``take`` would return something for a worker."""
        queues = (self.returned, self.high, self.lanes.heads[worker], self.normal)
        return any(self.skip_removed(queue) for queue in queues)

    def heads(self) -> Iterable[LiveDelivery]:
        """Return the delivery at the head of each queue."""
        queues = (self.high, self.normal, self.returned, *self.lanes.heads)
        return [queue[0] for queue in queues if queue]

    def next_due(self) -> float | None:
        """Return when the next parked delivery is due or the next delivery expires."""
        due = self.parked[0][0] if self.parked else _NEVER
        expiring = self.expiries.next_at()
        return None if due == expiring == _NEVER else min(due, expiring)

    def skip_removed(self, queue: deque[LiveDelivery]) -> bool:
        """Drop removed deliveries at the head of a queue; return whether one that waits is there."""
        while queue and queue[0] not in self.waiting:
            queue.popleft()
        return bool(queue)

    # -- internals -------------------------------------------------------------------------------------

    def _move(self, queue: deque[LiveDelivery], taken: list[LiveDelivery], limit: int) -> None:
        waiting, free = self.waiting, limit - len(taken)
        while queue and free > 0:
            delivery = queue.popleft()
            if delivery in waiting:
                waiting.discard(delivery)
                taken.append(delivery)
                free -= 1

    def _normal_share(self, others: int, limit: int) -> int:
        """Return the places that high priority leaves to the others: one in ten, over several batches."""
        if not others or limit <= 0:
            return 0
        self._share_credit += min(limit, len(self.high))
        places, self._share_credit = divmod(self._share_credit, _NORMAL_SHARE)
        return min(places, others, limit)

    def _drop_stale(self) -> None:
        """Drop the entries of removed deliveries once they outnumber the waiting ones.

        They would keep their messages alive: without this, messages that expire while no worker takes any
        would fill the memory.
        """
        waiting = self.waiting
        if not waiting:
            self._removed = 0
            for queue in (*self._all, self.arrivals):
                queue.clear()
            self.parked.clear()
            self.expiries.clear()
            self.lanes.forget_removed()
        elif self._removed > len(waiting):
            self._removed = 0
            for queue in self._all:
                _keep(queue, waiting)
            self._compact(len(waiting))

    def _compact(self, bound: int | None = None) -> None:
        """Drop stale entries where there are more than ``bound``; default: twice what waits, plus 64."""
        if bound is None:
            bound = 2 * len(self.waiting) + 64
        self.expiries.compact(bound)
        if len(self.parked) > bound:
            self.parked[:] = [entry for entry in self.parked if entry[2] in self.waiting]
            heapq.heapify(self.parked)
        if len(self.arrivals) > bound:
            self.arrivals = deque(
                one for one in self.arrivals if one in self.waiting and not was_attempted(one)
            )


def _keep(queue: deque[LiveDelivery], waiting: Collection[LiveDelivery]) -> None:
    """Keep those entries of a queue that still wait."""
    kept = [delivery for delivery in queue if delivery in waiting]
    if len(kept) < len(queue):
        queue.clear()
        queue.extend(kept)


def was_attempted(delivery: LiveDelivery) -> bool:
    """Return whether a delivery has had an attempt, or was in flight at a loss."""
    return delivery.attempts > 0 or delivery.losses > 0
