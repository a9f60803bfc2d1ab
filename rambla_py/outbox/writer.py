"""Group commit: one of the threads that publish commits for all that wait beside it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

__all__ = ["Writer"]

T = TypeVar("T")

_ROLE: Final = "role"
_MOST_INTERRUPTIONS: Final = 100
_LONGEST_GATHERING_S: Final = 0.005
_MOST_SKIPPED: Final = 64


class _Waiting(Generic[T]):
    """One call that waits: for its item to be committed, or with None for the role itself."""

    __slots__ = ("abandoned", "done", "error", "item", "size", "thread", "wake")

    def __init__(self, item: T | None, size: int) -> None:
        self.item, self.size, self.thread = item, size, threading.get_ident()
        self.done = self.abandoned = False
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def notify(self) -> None:
        """Let its thread look again; more than once is the same."""
        try:  # noqa: SIM105 - suppress() costs as much as all the rest
            self.wake.release()
        except RuntimeError:  # it has not looked since the last time
            pass


class Writer(Generic[T]):
    """The role of the writer of a journal, which one thread has at a time.

    A thread that submits an item takes the role if it is free, and commits for all that wait, in the order
    of their arrival; otherwise it waits. A thread that lets go of the role wakes the one that waits longest.
    ``commit`` is called with the items of one group, at most ``most`` by their sizes; if it raises an
    ``expected`` error, every item of the group has failed with it.

    A submit that interrupts the writer on its own thread (a signal handler, a finalizer) raises what ``busy``
    returns. When another exception ends a commit (from a signal handler, that one included), the others of
    its group raise what ``interrupted`` returns.

    The threads that a commit has released often come back at once, while the next commit has begun with the
    others: two groups would take turns, each with half of the threads. So a writer waits for as many calls as
    took part in the last commit or waited meanwhile, but no longer than a commit takes. When that was in vain
    it is not tried again for some commits.

    There is no lock inside: a signal handler may publish, or raise, between any two steps. Each step is one
    operation of a dict or a deque; only the thread that has the role takes from the queue, and ``_abandon``
    completes what an exception has left half done.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], None],
        *,
        expected: type[Exception],
        busy: Callable[[], Exception],
        interrupted: Callable[[], Exception],
        most: int = 500,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._gathering: _Waiting[T] | None = None
        self._concurrency, self._commit_s, self._skip, self._skipped = 1, 0.0, 0, 0
        self._commit, self._expected, self._most = commit, expected, most
        self._busy, self._interrupted = busy, interrupted
        self._refusal: Exception | None = None
        self._queue: deque[_Waiting[T]] = deque()
        self._group: list[_Waiting[T]] = []
        # The thread that has the role, if any. A lock would not say whose it is in the same step.
        self._holder: dict[str, int] = {}

    def submit(self, item: T, size: int = 1) -> None:
        """Return once an item is committed; raises what ``commit`` raised for its group."""
        waiting = _Waiting(item, size)
        self._enter(waiting)
        if waiting.error is not None:
            raise waiting.error

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread has the role: it was interrupted in a commit."""
        return self._holder.get(_ROLE) == threading.get_ident()

    def role(self) -> _Role:
        """Return a context in which this thread is the writer; entering it waits in the order of arrival."""
        return _Role(self)

    def _enter(self, waiting: _Waiting[T]) -> None:
        """Return once the item is committed, or the role is this thread's."""
        if self._holder.get(_ROLE) == waiting.thread:
            self._refusal = self._busy()
            raise self._refusal
        try:
            self._queue.append(waiting)
            while not waiting.done:
                if self._holder.setdefault(_ROLE, waiting.thread) == waiting.thread:
                    self._gather(waiting)
                    led = self._lead(waiting)
                    if waiting.done and waiting.item is None:
                        return
                    self._let_go()
                    if led:
                        continue
                else:
                    self._report(len(self._queue))
                waiting.wake.acquire()
        except BaseException:
            self._abandon(waiting)
            raise

    def _lead(self, waiting: _Waiting[T]) -> bool:
        """Commit the next group, or give the role to ``waiting``; return False if another thread must go on.

        This thread has the role.
        """
        if waiting.done:
            return True
        if self._take_group():
            self._run()
            return True
        # The call at the head wants the role. It is this one, or this one interrupted it while it waited.
        if self._queue[0].thread != waiting.thread:
            return False
        if waiting.item is None:
            waiting.done = True
            if self._queue[0] is waiting:
                self._queue.popleft()
        else:
            self._group.append(waiting)
            self._run()
        return True

    def _gather(self, waiting: _Waiting[T]) -> None:
        """Wait for the calls that are expected, at most for the time of a commit."""
        if (
            waiting.done
            or waiting.item is None
            or waiting.size * 2 > self._most
            or len(self._queue) >= self._concurrency
        ):
            return
        if self._skipped < self._skip:
            self._skipped += 1
            return
        self._gathering = waiting
        until = self._clock() + min(self._commit_s, _LONGEST_GATHERING_S)
        while len(self._queue) < self._concurrency and (left_s := until - self._clock()) > 0:
            waiting.wake.acquire(timeout=left_s)
        self._gathering = None
        in_vain = len(self._queue) < self._concurrency
        self._skip, self._skipped = min(self._skip * 2 + 1, _MOST_SKIPPED) if in_vain else 0, 0

    def _report(self, waiting: int) -> None:
        """Let the writer go on if it waits for as many calls as there are now."""
        gathering = self._gathering
        if gathering is not None and waiting >= self._concurrency:
            gathering.notify()

    def _take_group(self) -> bool:
        """Move the items at the head of the queue to the group; return whether there were any."""
        queue, group, size = self._queue, self._group, 0
        while queue:
            head = queue[0]
            if not (head.done or head.abandoned or (group and group[-1] is head)):
                size += head.size
                if head.item is None or (group and size > self._most):
                    break
                group.append(head)
            queue.popleft()
        return bool(group)

    def _run(self) -> None:
        error: BaseException | None = None
        began, number = self._clock(), len(self._group)
        try:
            self._commit([waiting.item for waiting in self._group if waiting.item is not None])
        except self._expected as raised:
            if raised is self._refusal:  # let through by the signal handler that got it
                raise
            error = raised
        self._commit_s = self._clock() - began
        if self._queue:
            number += sum(other.item is not None for other in list(self._queue))
        self._concurrency = number
        self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        """End the waiting of the group."""
        group = self._group
        while group:
            waiting = group[-1]
            if not waiting.done:
                waiting.error = error
                waiting.done = True
            waiting.notify()
            group.pop()

    def _let_go(self) -> None:
        self._holder.pop(_ROLE, None)
        self._wake_next()

    def _wake_next(self) -> None:
        """Wake the thread that waits longest: it takes the role, or waits again if it is taken."""
        if not self._queue:
            return
        waiting = list(self._queue)
        for first in waiting:
            if not (first.done or first.abandoned):
                for other in waiting:  # it may have been interrupted by calls that wait as well
                    if other.thread == first.thread:
                        other.notify()
                return

    def _abandon(self, waiting: _Waiting[T]) -> None:
        """Complete what an exception interrupted, and pass the role on; nothing waits for ``waiting``."""
        for _ in range(_MOST_INTERRUPTIONS):
            try:
                waiting.abandoned = True
                if self._holder.get(_ROLE) == waiting.thread:
                    self._settle(self._interrupted())
                    self._holder.pop(_ROLE, None)
                self._wake_next()
            except BaseException:  # one more interruption; the first one is raised
                continue
            return


class _Role:
    """The role of the writer, for one ``with``."""

    def __init__(self, writer: Writer[Any]) -> None:
        self._writer, self._waiting = writer, _Waiting[Any](None, 0)

    def __enter__(self) -> None:
        self._writer._enter(self._waiting)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer._let_go()
        except BaseException:
            self._writer._abandon(self._waiting)
            raise
