"""Waiting until everything that targets have accepted has ended."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from rambla_py._internal.durations import DEFAULT, Default
from rambla_py._internal.waiting import Signal, pauses, wait_until_over, wait_until_over_async
from rambla_py.errors import ReceiptTimeoutError
from rambla_py.runtime.target.snapshot import obstacle
from rambla_py.runtime.target.target import Target

__all__ = ["Flush"]


class Flush:
    """Waits for all deliveries that targets have accepted so far; ``done`` is set once all have ended.

    With ``stored``, also for what others had stored in the outbox, as far as this process delivers it.
    """

    def __init__(self, targets: Iterable[Target], *, stored: bool = False) -> None:
        self.done = Signal()
        self._open = set(targets)
        self._handles = [
            (target, wake, target.counters.when_flushed(wake, reading=stored and _may_get_more(target)))
            for target in list(self._open)
            for wake in [functools.partial(self._flushed, target)]
        ]
        for target, _, handle in self._handles:
            if handle.reading and target.durability is not None:
                target.durability.when_read(functools.partial(target.counters.read, handle))
        for target in list(self._open):
            target.gathering.release()
        if not self._open:
            self.done.set()

    def left(self) -> int:
        """Return how many of these deliveries have not ended."""
        return sum(max(0, handle.left) for _, _, handle in self._handles)

    def skip(self, target: Target) -> None:
        """Do not wait for what a target has left."""
        for one, wake, _ in self._handles:
            if one is target:
                target.counters.forget_flush(wake)
        self._flushed(target)

    def cancel(self) -> None:
        """Stop waiting."""
        for target, wake, _ in self._handles:
            target.counters.forget_flush(wake)

    def wait(self, timeout_s: float | Default, quiet_s: float) -> bool:
        """Block until ``done``; return False if ``timeout_s`` passed first.

        With ``DEFAULT``, raises ``ReceiptTimeoutError`` once none of them has ended for ``quiet_s`` seconds.
        """
        try:
            wait_until_over(self.done, pauses(timeout_s, quiet_s, self.left))
        finally:
            self.cancel()
        return self._result(timeout_s, quiet_s)

    async def wait_async(self, timeout_s: float | Default, quiet_s: float) -> bool:
        """Wait as ``wait`` does, on the running loop."""
        try:
            await wait_until_over_async(self.done, pauses(timeout_s, quiet_s, self.left))
        finally:
            self.cancel()
        return self._result(timeout_s, quiet_s)

    def _result(self, timeout_s: float | Default, quiet_s: float) -> bool:
        if timeout_s is DEFAULT and not self.done:
            total = sum(handle.total for _, _, handle in self._handles)
            done = total - self.left()
            obstacles = [why for target, _, _ in self._handles if (why := obstacle(target)) is not None]
            raise ReceiptTimeoutError(quiet_s, done, total, (), quiet=True, obstacles=obstacles)
        return bool(self.done)

    def _flushed(self, target: Target) -> None:
        self._open.discard(target)
        if not self._open:
            self.done.set()


def _may_get_more(target: Target) -> bool:
    return target.durability is not None and not target.state.closed
