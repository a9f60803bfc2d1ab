"""Threads that keep many requests to one server in flight.

Over HTTP, one request may fail while others are answered, so a failed request does not by itself mean that
the server is gone (``Losses`` decides). When it is, the intake stops, the requests in flight are waited for
(each is bounded by its own time-out), and only then are all losses reported: reporting the first one at once
would make the worker give up requests that are still answered, and send them twice.

If a request times out and nothing was answered since it began, ``answers`` asks the server; likewise if the
connection of a request of several messages breaks. If the server answers, only that request has no answer,
and those beside it go on.

Deliveries that wait for a thread have not begun. The link knows them, so that they can expire, and are not
unknown at a stop.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handlers._losses import Loss, Losses, ServerCheck

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["Group", "RequestPool", "lost", "unsent"]

# A server that answers at once is best served by few threads: 4 made 13,000 requests/s where 32 made 8,600,
# and took half the CPU. A slow server needs many.
_FIRST_THREADS = 4
_CHECK_S = 0.01

Group = Sequence["Delivery"]


class _Lane:
    """A queue of groups, and the threads that take from it: ``limit`` at most.

    ``finished`` counts the groups that they have finished, ``before`` is this count at the last check.
    """

    __slots__ = ("before", "finished", "limit", "queue", "threads")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queue: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self.threads = self.finished = self.before = 0


class RequestPool:
    """Threads that each take one group of deliveries at a time and make a request of it.

    ``work`` settles the deliveries of a group, and returns those without an answer instead; it calls
    ``begins`` before each request and ``answered`` for each answer. There are few threads at first, and twice
    as many, up to ``limit``, whenever groups wait and the threads made less than one request each in 10 ms,
    because then they mostly wait, too. All end with ``close``.

    ``apart`` is the limit for groups of their own threads, which may hang without holding up the others; with
    0 there are none. ``answers`` asks the server whether it answers now, and returns False or raises a
    ``DeliveryError`` if not.
    """

    def __init__(
        self,
        work: Callable[[Group], Sequence[Loss]],
        *,
        limit: int,
        link: Link,
        name: str,
        apart: int = 0,
        answers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work, self._link, self._name = work, link, name
        self._shared = self._apart = _Lane(limit)
        if apart:
            self._apart = _Lane(apart)
        self._lanes = (self._shared, self._apart) if apart else (self._shared,)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pending = 0
        self._scales = False
        self._busy, self._closed = threading.Event(), threading.Event()
        self._losses = Losses(time.monotonic())
        self._check = ServerCheck(self._losses, answers)
        self._request = threading.local()

    def __repr__(self) -> str:
        threads, limit = (sum(getattr(lane, of) for lane in self._lanes) for of in ("threads", "limit"))
        return f"<RequestPool {threads} of {limit} threads, {self._pending} groups>"

    def submit(
        self, groups: Sequence[Group], apart: Sequence[Group] = (), *, lane: _Lane | None = None
    ) -> None:
        """Queue groups, those ``apart`` in a lane of their own; each delivery is settled later."""
        if apart:
            self.submit(apart, lane=self._apart)
            if not groups:
                return
        if lane is None:  # one function, because each call is counted for each message
            lane = self._shared
        with self._lock:
            self._pending += len(groups)
            wanted = min(_FIRST_THREADS, self._pending)
        self._link.wait([delivery for group in groups for delivery in group])
        for group in groups:
            lane.queue.put(group)
        if not self._scales:
            self._scales = self._start(self._scale)
        self._grow(lane, wanted - lane.threads)
        self._busy.set()
        if not lane.threads:
            lane.queue.put(None)
            self._run(lane)

    def begins(self) -> float:
        """Record that this thread begins a request, and return when: of several, the last may be lost."""
        self._request.began = began = time.monotonic()
        return began

    def answered(self, began: float) -> None:
        """Record an answer, of whatever status, to a request that began at a monotonic time."""
        if self._losses.held:
            with self._lock:
                isolated = self._losses.answered(began, time.monotonic())
            _settle(isolated)
        else:
            self._losses.answered_at = time.monotonic()

    def close(self) -> None:
        """Let the threads end after their current request; may be called twice."""
        if os.getpid() != self._pid:  # threads do not survive a fork
            return
        with self._lock:
            self._losses.stopped = True
            self._closed.set()
            ending = [(lane, lane.threads) for lane in self._lanes]
        self._busy.set()
        for lane, threads in ending:
            for _ in range(threads):
                lane.queue.put(None)

    def _grow(self, lane: _Lane, more: int) -> None:
        with self._lock:
            more = 0 if self._closed.is_set() else min(more, lane.limit - lane.threads)
            lane.threads += max(0, more)
        for _ in range(more):
            if not self._start(self._run, lane):
                with self._lock:
                    lane.threads -= 1

    def _start(self, run: Callable[..., None], *arguments: _Lane) -> bool:
        """Start a thread; False if the interpreter exits: Python 3.12 and later then start none."""
        try:
            threading.Thread(target=run, args=arguments, name=f"{self._name} request", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _scale(self) -> None:
        """Add threads while groups wait and requests are slow."""
        while not self._closed.is_set():
            self._busy.wait()
            for lane in self._lanes:
                lane.before = lane.finished
            if self._closed.wait(_CHECK_S):
                return
            with self._lock:
                if not self._pending:
                    self._busy.clear()
            for lane in self._lanes:
                if lane.finished - lane.before < lane.threads and lane.queue.qsize():
                    self._grow(lane, lane.threads)

    def _run(self, lane: _Lane) -> None:
        while (group := lane.queue.get()) is not None:
            self.begins()
            losses = self._attempt(group)
            self._finish(lane, self._request.began, losses)
            del group  # an idle thread would keep its messages in memory

    def _attempt(self, queued: Group) -> Sequence[Loss]:
        if self._losses.stopped or self._losses.gone:
            return unsent(queued)
        group = self._link.begin(queued)
        if not group:
            return ()
        try:
            return self._work(group)
        except BaseException as error:  # a bug, or MemoryError: it must cost neither a thread nor an outcome
            for delivery in group:
                delivery.failed(error)
            return ()

    def _finish(self, lane: _Lane, began: float, losses: Sequence[Loss]) -> None:
        if losses:
            losses = self._check.single(began, losses)
        with self._lock:
            self._pending -= 1
            lane.finished += 1
            actions = self._losses.finished(began, losses, time.monotonic(), last=not self._pending)
        if actions is None:
            return
        if actions.hold:
            self._link.hold()
        _settle(actions.settle)
        if actions.lost is not None:
            self._link.lost(actions.lost)
        if actions.again:
            self.submit([actions.again])


def lost(group: Iterable[Delivery], error: DeliveryError) -> list[Loss]:
    """Return the loss of each delivery of a group, which shared a request if there are several."""
    losses = [(delivery, error) for delivery in group]
    if len(losses) > 1 and isinstance(error, UnknownOutcomeError):
        shared = UnknownOutcomeError(error.reason, connection_lost=error.connection_lost, together=True)
        return [(delivery, shared.with_detail(error.detail)) for delivery, _ in losses]
    return losses


def unsent(group: Iterable[Delivery]) -> list[Loss]:
    """Return the loss of each delivery of a group that was not begun."""
    return lost(group, ConnectionLostError("the connection was lost before the request was sent"))


def _settle(losses: Iterable[Loss]) -> None:
    for delivery, error in losses:
        delivery.failed(error)
