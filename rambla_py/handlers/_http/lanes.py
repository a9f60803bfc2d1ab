"""This module keeps many requests in flight, and reports a loss only when nothing is in flight any more.

A worker that hears of a loss gives up everything that is in flight on its connection. Over HTTP one request
may fail while the others are answered well, and giving those up would have them sent twice. So the first loss
stops the intake, the others are waited for (each is bounded by its own time-out), and then all losses
are told at once.

What waits for a lane has not begun: the link is told, so that it may expire, and is not unknown at a stop.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import ConnectionLostError, DeliveryError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["Group", "Lanes", "Loss", "lost", "unsent"]

# A server that answers at once is best served by few: 4 made 13,000 requests/s where 32 made 8,600, and took
# half the CPU. One that takes its time needs many.
_FIRST_LANES = 4
_LOOK_S = 0.01

Group = Sequence["Delivery"]
Loss = tuple["Delivery", DeliveryError]


class Lanes:
    """Threads that each take one group of deliveries at a time and make a request of it.

    ``work`` settles the deliveries of a group, and returns those that were lost instead. There are few lanes
    at first, and twice as many, up to ``limit``, whenever groups wait and the lanes made less than a request
    each in 10 ms: then they mostly wait, too. All end with ``close``.
    """

    def __init__(self, work: Callable[[Group], Sequence[Loss]], *, limit: int, link: Link, name: str) -> None:
        self._work, self._limit, self._link, self._name = work, limit, link, name
        self._queue: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._threads = 0
        self._due = 0
        self._ended = 0
        self._busy, self._closed = threading.Event(), threading.Event()
        self._losses: list[Loss] = []
        self._losing = False

    def __repr__(self) -> str:
        return f"<Lanes {self._threads} of {self._limit}, {self._due} due>"

    def submit(self, groups: Sequence[Group]) -> None:
        """Hand over groups; each delivery is settled later, on one of the threads."""
        with self._lock:
            self._due += len(groups)
            wanted = min(_FIRST_LANES, self._due)
        self._link.wait([delivery for group in groups for delivery in group])
        for group in groups:
            self._queue.put(group)
        if not self._threads:
            self._start(self._scout)
        self._grow(wanted - self._threads)
        self._busy.set()
        if not self._threads:
            self._queue.put(None)
            self._run()

    def close(self) -> None:
        """Let the threads end once they have finished what they are at; may be called twice."""
        if os.getpid() != self._pid:  # a parent's threads did not come along
            return
        with self._lock:
            self._losing = True
            self._closed.set()
            ending = self._threads
        self._busy.set()
        for _ in range(ending):
            self._queue.put(None)

    def _grow(self, more: int) -> None:
        with self._lock:
            more = 0 if self._closed.is_set() else min(more, self._limit - self._threads)
            self._threads += max(0, more)
        for _ in range(more):
            if not self._start(self._run):
                with self._lock:
                    self._threads -= 1

    def _start(self, run: Callable[[], None]) -> bool:
        """Start a thread; say whether it could be: from Python 3.12 on there are none at interpreter exit."""
        try:
            threading.Thread(target=run, name=f"{self._name} lane", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _scout(self) -> None:
        """See to it that lanes are enough, and not overrun, while there is something to do."""
        while not self._closed.is_set():
            self._busy.wait()
            ended = self._ended
            if self._closed.wait(_LOOK_S):
                return
            with self._lock:
                if not self._due:
                    self._busy.clear()
            if self._queue.qsize() and self._ended - ended < self._threads:
                self._grow(self._threads)

    def _run(self) -> None:
        while (taken := self._queue.get()) is not None:
            self._done(self._attempted(taken))

    def _attempted(self, taken: Group) -> Sequence[Loss]:
        if self._losing:
            return unsent(taken)
        group = [delivery for delivery in taken if self._link.begin(delivery)]
        if not group:
            return ()
        try:
            return self._work(group)
        except BaseException as error:  # a bug, or MemoryError: it must not cost a lane, nor an outcome
            for delivery in group:
                delivery.failed(error)
            return ()

    def _done(self, losses: Sequence[Loss]) -> None:
        told: list[Loss] = []
        with self._lock:
            self._due -= 1
            self._ended += 1
            self._losses += losses
            first = bool(losses) and not self._losing
            self._losing = self._losing or bool(losses)
            if not self._due:
                told, self._losses = self._losses, []
        if first:
            self._link.hold()
        # Each loss goes back to the head of the mailbox, so the last one goes first.
        for delivery, error in sorted(told, key=_place, reverse=True):
            delivery.failed(error)
        if told:
            self._link.lost(told[0][1])


def lost(group: Iterable[Delivery], error: DeliveryError) -> list[Loss]:
    """Return the loss of each delivery of a group."""
    return [(delivery, error) for delivery in group]


def unsent(group: Iterable[Delivery]) -> list[Loss]:
    """Return the loss of each delivery of a group that was not begun."""
    return lost(group, ConnectionLostError("the connection was lost before the request was sent"))


def _place(loss: Loss) -> int:
    return loss[0].seq
