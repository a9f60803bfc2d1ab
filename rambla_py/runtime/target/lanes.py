"""Lanes of keyed deliveries: one delivery, or one run, of a key at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from rambla_py.policy import worker_of

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["Lanes"]


class Lanes:
    """The lanes of a mailbox: the head of a key waits for its worker, the others wait for the head to end.

    ``waiting`` is the set of deliveries in the mailbox; a lane skips a delivery that has left it.
    ``_removed`` counts these by key. ``_delayed`` has deliveries that join their lane only after their delay.
    ``retrying`` has the keys whose head waits for a retry, ``new`` the workers that got a new head since the
    last ``take_new``. Not thread-safe by itself.

    With ``runs``, a head is taken together with deliveries that follow it in its lane. The head holds the
    lane for all of them. ``_single_until`` has, by key, the last delivery that was held back because one
    before it failed: up to that one, each goes by itself.
    """

    def __init__(self, workers: int, waiting: set[LiveDelivery], *, runs: bool = False) -> None:
        self.heads: list[deque[LiveDelivery]] = [deque() for _ in range(workers)]
        self._waiting = waiting
        self.behind: dict[str, deque[LiveDelivery] | None] = {}
        self.retrying: set[str] = set()
        self.new: set[int] = set()
        self._removed: Counter[str] = Counter()
        self._delayed: set[LiveDelivery] = set()
        self._runs = runs
        self._single_until: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.behind)

    def add(self, delivery: LiveDelivery) -> None:
        """Add a new delivery at the end of its lane."""
        key, behind = cast(str, delivery.key), self.behind
        if self._delayed:
            self._delayed.discard(delivery)
        try:
            lane = behind[key]
        except KeyError:
            behind[key] = None
            self.new.add(self._set_head(delivery, key))
            return
        if lane is None:
            behind[key] = deque((delivery,))
        else:
            lane.append(delivery)

    def delay(self, delivery: LiveDelivery) -> None:
        """Record that a new delivery joins its lane only after its delay."""
        self._delayed.add(delivery)

    def take_new(self) -> set[int]:
        """Return the workers with new heads, each once."""
        new, self.new = self.new, set()
        return new

    def add_head(self, delivery: LiveDelivery) -> None:
        """Put the head of a lane back in front of the other heads of its worker."""
        key = cast(str, delivery.key)
        self.retrying.discard(key)
        self.heads[worker_of(key, len(self.heads))].appendleft(delivery)

    def add_behind_head(self, delivery: LiveDelivery) -> None:
        """Put a delivery of a run back behind the head of its lane, in front of the others."""
        key = cast(str, delivery.key)
        lane = self.behind.get(key)
        if lane is None:
            self.behind[key] = deque((delivery,))
        else:
            lane.appendleft(delivery)

    def take_single(self, deliveries: Iterable[LiveDelivery]) -> None:
        """Take these by themselves from now on, not in runs."""
        single = self._single_until
        for delivery in deliveries:
            key = cast(str, delivery.key)
            single[key] = max(delivery.seq, single.get(key, -1))

    def take(self, heads: deque[LiveDelivery], taken: list[LiveDelivery], limit: int) -> None:
        """Move deliveries from ``heads``, each with its run, until ``taken`` has ``limit`` of them.

        The heads share the free places, so that a key with many deliveries leaves places to the others.
        """
        popleft, append, leave, free = heads.popleft, taken.append, self._waiting.remove, limit - len(taken)
        share = max(1, free // len(heads)) - 1 if self._runs else 0
        while heads and free > 0:
            delivery = popleft()
            try:
                leave(delivery)
            except KeyError:  # it expired, or was dropped
                continue
            append(delivery)
            free -= 1
            if share and free:
                free -= self._take_run(delivery, taken, min(share, free))

    def _take_run(self, head: LiveDelivery, taken: list[LiveDelivery], limit: int) -> int:
        """Move up to ``limit`` deliveries that follow a head; return how many."""
        key, left = cast(str, head.key), limit
        lane = self.behind.get(key)
        if not lane or head.attempts or head.losses or head.calls:
            return 0
        if self._single_until and head.seq <= self._single_until.get(key, -1):
            return 0
        popleft, append, leave = lane.popleft, taken.append, self._waiting.remove
        while lane and left:
            following = popleft()
            if following.calls:  # a worker calls payloads before it passes on the rest of a batch
                lane.appendleft(following)
                break
            try:
                leave(following)
            except KeyError:
                self._removed[key] -= 1
                continue
            append(following)
            left -= 1
        return limit - left

    def remove(self, delivery: LiveDelivery) -> None:
        """Record that a delivery left the mailbox before it was taken.

        Its lane drops it, with others, once they are half of the lane, or skips it later.
        """
        if delivery in self._delayed:
            self._delayed.discard(delivery)
        elif not delivery.holds_lane:
            key = cast(str, delivery.key)
            self._removed[key] += 1
            lane = self.behind.get(key)
            if lane is not None and 2 * self._removed[key] >= len(lane):
                self.behind[key] = deque(one for one in lane if one in self._waiting) or None
                del self._removed[key]

    def forget_removed(self) -> None:
        """Drop removed deliveries when nothing waits: lanes then have heads only."""
        for key in self._removed:
            if key in self.behind:
                self.behind[key] = None
        self._removed.clear()

    def release(self, deliveries: Iterable[LiveDelivery]) -> set[int]:
        """Make the next deliveries of their keys heads; return the workers that may take these."""
        behind, retrying, waiting, workers = self.behind, self.retrying, self._waiting, set()
        heads = self.heads
        worker, many, add_head = -1, len(heads) > 1, heads[0].append
        for delivery in deliveries:
            key = cast(str, delivery.key)
            delivery.holds_lane = False
            if retrying:
                retrying.discard(key)
            lane = behind.get(key)
            while lane:
                following = lane.popleft()
                if following not in waiting:
                    self._removed[key] -= 1
                    continue
                # The same as _set_head, inlined: with many keys, one in two messages comes by here.
                following.holds_lane = True
                worker = 0
                if many:
                    worker = worker_of(key, len(heads))
                    add_head = heads[worker].append
                    workers.add(worker)
                add_head(following)
                break
            else:
                self._forget(key)
        return workers if many or worker < 0 else {0}

    def retry_later(self, delivery: LiveDelivery) -> None:
        """Record that the head of a lane waits for a retry."""
        if delivery.holds_lane:
            self.retrying.add(cast(str, delivery.key))

    def behind_a_retry(self, key: str) -> int:
        """Return how many deliveries a key has while its head waits for a retry, else 0."""
        return 1 + len(self.behind.get(key) or ()) - self._removed[key] if key in self.retrying else 0

    def clear(self) -> None:
        """Remove everything."""
        for heads in self.heads:
            heads.clear()
        self.behind.clear()
        self.new.clear()
        self._removed.clear()
        self._delayed.clear()
        self._single_until.clear()
        self.retrying.clear()

    def _forget(self, key: str) -> None:
        self.behind.pop(key, None)
        self._removed.pop(key, None)
        self._single_until.pop(key, None)

    def _set_head(self, delivery: LiveDelivery, key: str) -> int:
        delivery.holds_lane = True
        heads = self.heads
        worker = worker_of(key, len(heads)) if len(heads) > 1 else 0
        heads[worker].append(delivery)
        return worker
