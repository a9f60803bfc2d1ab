"""Mailbox: the waiting deliveries of one target, in the order in which workers may take them."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rambla_py.runtime.target.isolation import next_group
from rambla_py.runtime.target.queues import SortedQueues

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["Mailbox"]


class Mailbox:
    """Holds the deliveries that wait for the workers of one target. Thread-safe.

    ``ready`` has the plain ones: new deliveries without a key, with the channel's own expiry and priority.
    ``arrived`` has the other new ones. Publishers append to both without a lock; they are in the order of
    acceptance, so the oldest in ``ready`` expires first. A method that reads more than ``ready`` first sorts
    ``arrived`` into queues, under ``lock``.

    ``places`` is the bound minus the sorted deliveries, ``ready_limit`` also minus those in ``arrived``.
    ``retrying`` has the keys whose first delivery waits for a retry. While ``paused``, only probes may be
    taken. ``isolated``: suspects have a worker of their own. Without ``drops_oldest`` the order of arrivals
    is not kept, and ``take_oldest`` finds plain deliveries only. With ``runs``, ``take`` may return several
    deliveries of a key, one behind the other; otherwise one of each key at a time.
    """

    def __init__(
        self,
        *,
        workers: int,
        max_pending: int,
        expires_s: float | None,
        isolated: bool = False,
        drops_oldest: bool = True,
        runs: bool = False,
    ) -> None:
        self.lock = threading.RLock()
        self.paused = False
        self.isolated = isolated
        self.ready: deque[LiveDelivery] = deque()
        self.arrived: deque[LiveDelivery] = deque()
        self.ready_limit = self.places = max_pending
        self._max_pending = max_pending
        self._expires_s = expires_s
        self._queues = SortedQueues(workers=workers, keep_arrivals=drops_oldest, runs=runs)
        self._waiting, self._lanes = self._queues.waiting, self._queues.lanes
        self.retrying = self._lanes.retrying
        self.waiting = self.ready, self.arrived, self._waiting
        """What holds the waiting deliveries, for code that counts them often, without the call of ``len``."""

    def __len__(self) -> int:
        return len(self.ready) + len(self.arrived) + len(self._waiting)

    def __repr__(self) -> str:
        parked, lanes = len(self._queues.parked), len(self._lanes)
        return f"Mailbox(waiting={len(self)}, parked={parked}, lanes={lanes})"

    # -- room ------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether ``max_pending`` deliveries wait."""
        return not self.has_room(1)

    def free_places(self) -> int:
        """Return how many more deliveries fit."""
        with self.lock:
            self._count_places()
            return max(0, self.ready_limit - len(self.ready))

    def has_room(self, number: int) -> bool:
        """Return whether ``number`` more deliveries fit."""
        if len(self.ready) + number <= self.ready_limit:
            return True
        with self.lock:  # two concurrent publishers may have left an outdated limit
            self._count_places()
            return len(self.ready) + number <= self.ready_limit

    def reserve(self, places: int) -> bool:
        """Lend places if there are so many; return whether there were."""
        with self.lock:
            self._count_places()
            if len(self.ready) + places > self.ready_limit:
                return False
            self._max_pending -= places
            self._count_places()
            return True

    def lend(self, places: int) -> None:
        """Lend places to deliveries that wait elsewhere but count here; negative: take them back."""
        with self.lock:
            self._max_pending -= places
            self._count_places()

    # -- adding ----------------------------------------------------------------------------------------

    def put(self, delivery: LiveDelivery) -> None:
        """Add a new delivery that is not plain; the next thread that takes sorts it."""
        self.arrived.append(delivery)
        self.ready_limit = self.places - len(self.arrived)

    def put_back(self, deliveries: Iterable[LiveDelivery]) -> None:
        """Add deliveries to be retried ahead of the others, in their order."""
        with self.lock:
            for delivery in reversed(list(deliveries)):
                self._queues.add_in_front(delivery)
            self._count_places()

    def hold_back(self, followers: Sequence[LiveDelivery]) -> None:
        """Put deliveries of runs back behind the heads of their lanes; from now on each is taken singly."""
        with self.lock:
            self.put_back(followers)
            self._lanes.take_single(followers)

    def park(self, delivery: LiveDelivery, due: float) -> None:
        """Hold a delivery until ``due``; if it holds a lane, it keeps it."""
        with self.lock:
            self._queues.park(delivery, due)
            self._count_places()

    def unpark(self, now: float) -> list[LiveDelivery]:
        """Make the parked deliveries that are due available, and return them."""
        with self.lock:
            self._sort()
            due = self._queues.unpark(now)
            self._count_places()
            return due

    def hold(self, delivery: LiveDelivery, *, retry: bool = False) -> None:
        """Hold a delivery until it is released or queued as a probe; if it holds a lane, it keeps it.

        ``retry``: it waits for a retry of its own, not for the whole target.
        """
        with self.lock:
            self._queues.add(delivery)
            if retry:
                self._lanes.retry_later(delivery)
            self._count_places()

    def holds(self, delivery: LiveDelivery) -> bool:
        """Return whether a delivery is in the mailbox, outside of ``ready``."""
        return delivery in self._waiting

    def release(self, deliveries: Iterable[LiveDelivery]) -> list[LiveDelivery]:
        """Make deliveries that are still held available, ahead of the others; return them."""
        with self.lock:
            held = [delivery for delivery in deliveries if delivery in self._waiting]
            self.put_back(held)
            return held

    def queue_probe(self, held: deque[LiveDelivery], scope: str, *, fresh_first: bool) -> bool:
        """Make one delivery available as the probe of a scope; return False if there is none.

        It is the first of ``held`` that still waits; with ``fresh_first``, one that waits for workers if any,
        or a suspect: nothing else tries those while the target is paused.
        """
        with self.lock:
            self._sort()
            probe = self._take_next() if fresh_first else None
            while probe is None and held:
                first = held.popleft()
                probe = first if first in self._waiting else None
            if probe is None:
                return False
            self._queues.add(probe)
            self._count_places()
            probe.past().probe(scope)
            self._queues.probes.append(probe)
            return True

    def isolate(self, isolated: bool) -> None:
        """Leave suspects to a worker of their own, or to the ordinary workers."""
        self.isolated = isolated

    def pause(self, paused: bool) -> None:
        """Make only probes available, or everything again."""
        self.paused = paused

    def release_lanes(self, deliveries: Iterable[LiveDelivery]) -> set[int]:
        """Release the lanes of deliveries that have ended; return the workers with new heads."""
        with self.lock:
            self._sort()
            return self._lanes.release(deliveries)

    def workers_with_new(self) -> set[int]:
        """Return the workers with new heads of lanes, each once."""
        new = self._lanes.new
        if not new:
            return new
        with self.lock:
            return self._lanes.take_new()

    # -- taking ----------------------------------------------------------------------------------------

    def take(self, worker: int, limit: int, *, alone_ok: bool) -> list[LiveDelivery]:
        """Take up to ``limit`` deliveries for a worker.

        A delivery that must be sent alone is taken by itself, and only if ``alone_ok`` (nothing else is in
        flight on that worker); until then the worker gets nothing.
        """
        with self.lock:
            queues = self._queues
            taken: list[LiveDelivery] = []
            if self.paused or queues.probes:
                taken = queues.take_probe() if queues.has_probe(alone_ok=alone_ok) else []
                self._count_places()
                if taken or self.paused:
                    return taken
            if self.arrived:
                self._sort()
            ready = self.ready
            if self._waiting:
                if not self.isolated and queues.skip_removed(queues.suspects):
                    if not alone_ok:
                        return []
                    taken = queues.take_suspect()
                    self._count_places()
                    return taken
                taken = queues.take(worker, limit, plain=len(ready))
                self._count_places()
            for _ in range(min(limit - len(taken), len(ready))):
                taken.append(ready.popleft())
            return taken

    def take_suspects(self, most: int) -> list[LiveDelivery]:
        """Take the next suspects for the isolated worker to try together."""
        with self.lock:
            queues = self._queues
            return self._remove([] if self.paused else next_group(queues.suspects, self._waiting, most))

    def take_held(self, held: Iterable[LiveDelivery]) -> list[LiveDelivery]:
        """Take those of some held deliveries that still wait."""
        with self.lock:
            return self._remove([delivery for delivery in held if delivery in self._waiting])

    def take_oldest(self) -> LiveDelivery | None:
        """Take the oldest delivery that was never attempted, or None."""
        with self.lock:
            self._sort()
            oldest = self._queues.oldest_arrival()
            if self.ready and (oldest is None or self.ready[0].accepted_at <= oldest.accepted_at):
                return self.ready.popleft()
            if oldest is not None:
                self._remove([oldest])
            return oldest

    def take_expired(self, now: float) -> list[LiveDelivery]:
        """Take the deliveries that have expired, wherever they wait."""
        with self.lock:
            self._sort()
            expired = self._remove(self._queues.expiries.take(now))
            if self._expires_s is not None:
                while self.ready and self.ready[0].accepted_at + self._expires_s <= now:
                    expired.append(self.ready.popleft())
            return expired

    def take_accepted_before(self, time: float) -> list[LiveDelivery]:
        """Take what was accepted before ``time``, wherever it waits."""
        with self.lock:
            self._sort()
            old = self._remove([one for one in self._waiting if one.accepted_at < time])
            for _ in range(len(self.ready)):
                one = self.ready.popleft()
                (old if one.accepted_at < time else self.ready).append(one)
            return old

    def take_all(self) -> list[LiveDelivery]:
        """Take everything, including parked deliveries and lanes."""
        with self.lock:
            self._sort()
            waiting = [*self._waiting, *(self.ready.popleft() for _ in range(len(self.ready)))]
            self._queues.clear()
            self._count_places()
            return sorted(waiting, key=lambda delivery: delivery.accepted_at)

    def take_parked_after(self, time: float) -> list[LiveDelivery]:
        """Take the parked deliveries that are due later than ``time``."""
        with self.lock:
            return self._remove(self._queues.parked_after(time))

    # -- inspection ------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether nothing waits; reads without the lock, so adding a delivery must wake a worker."""
        return not (self.ready or self.arrived or self._waiting)

    @property
    def only_plain(self) -> bool:
        """Whether nothing waits but new deliveries that any worker may take; reads without the lock."""
        return not (self.arrived or self._waiting)

    @property
    def has_suspects(self) -> bool:
        """Whether suspects wait for the isolated worker."""
        with self.lock:
            return not self.paused and self._queues.skip_removed(self._queues.suspects)

    @property
    def has_probe(self) -> bool:
        """Whether a probe waits for a worker."""
        with self.lock:
            return self._queues.has_probe(alone_ok=True)

    def takeable(self, worker: int, *, alone_ok: bool) -> bool:
        """Return whether ``take`` would return something for a worker."""
        if self.empty:
            return False
        with self.lock:
            if self.has_probe or self.paused:
                return self._queues.has_probe(alone_ok=alone_ok)
            if not self.isolated and self.has_suspects:
                return alone_ok
            self._sort()
            return bool(self.ready) or self._queues.has_for(worker)

    def behind_a_retry(self, key: str) -> int:
        """Return how many deliveries a key has while its head waits for a retry, else 0."""
        if key not in self.retrying:
            return 0
        with self.lock:
            self._sort()
            return self._lanes.behind_a_retry(key)

    def next_due(self) -> float | None:
        """Return when the next parked delivery is due or the next one outside of ``ready`` expires."""
        with self.lock:
            self._sort()
            return self._queues.next_due()

    def expires_before(self, now: float) -> bool:
        """Return whether a waiting delivery may have expired; those in ``ready`` expire in their order."""
        if self._expires_s is not None:
            try:
                if self.ready[0].accepted_at + self._expires_s <= now:
                    return True
            except IndexError:  # suppress() would cost more than the rest
                pass
        if not (self.arrived or self._waiting):
            return False
        with self.lock:
            self._sort()
            return self._queues.expiries.first_at() <= now

    def first_accepted_at(self) -> float | None:
        """Return when the oldest waiting delivery was accepted, including retries and lanes."""
        with self.lock:
            self._sort()
            waiting = list(self._waiting)
        with contextlib.suppress(IndexError):
            waiting.append(self.ready[0])
        return min((delivery.accepted_at for delivery in waiting), default=None)

    def oldest_at(self) -> float | None:
        """Return when the oldest delivery at the head of a queue was accepted."""
        with self.lock:
            self._sort()
            heads = [*([self.ready[0]] if self.ready else ()), *self._queues.heads()]
            return min((delivery.accepted_at for delivery in heads), default=None)

    # -- internals, under the lock ---------------------------------------------------------------------

    def _sort(self) -> None:
        if self.arrived:
            self._queues.sort(self.arrived)
            self._count_places()

    def _remove(self, deliveries: list[LiveDelivery]) -> list[LiveDelivery]:
        for delivery in deliveries:
            self._queues.remove(delivery)
        self._count_places()
        return deliveries

    def _take_next(self) -> LiveDelivery | None:
        taken = self._queues.take_next()
        if taken is None:
            taken = self.ready.popleft() if self.ready else self._queues.next_suspect()
        return taken

    def _count_places(self) -> None:
        self.places = self._max_pending - len(self._waiting)
        self.ready_limit = self.places - len(self.arrived)
