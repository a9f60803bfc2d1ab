"""This module is what ``publish`` returns: the promise of an outcome for each delivery."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from rambla_py.errors import ForkedError, PublishError, ReceiptTimeoutError

if TYPE_CHECKING:
    from rambla_py.outcome import Outcome, Status

__all__ = ["Home", "Receipt"]

log = logging.getLogger("rambla_py.receipt")

# Reentrant, for a signal handler or a finalizer may publish and wait while its own thread is in here.
# Held only to add or take waiters, never while anything waits; a settle without waiters does not touch it.
_waiting = threading.RLock()


def _renew_lock() -> None:
    global _waiting
    _waiting = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class _Ended(Protocol):
    """What a receipt looks at of a delivery: its place among the others, and how it ended."""

    @property
    def slot(self) -> int: ...

    @property
    def status(self) -> Status | None: ...

    @property
    def result(self) -> Any: ...

    def outcome(self) -> Outcome: ...


class Home:
    """The process that a receipt was made in; a fork marks it in the child."""

    __slots__ = ("forked",)

    def __init__(self) -> None:
        self.forked = False


class _Shape(msgspec.Struct, gc=False, eq=False):
    """What a receipt of several deliveries has on top: their number, and a ticket for each that ended."""

    size: int
    targets: int
    many: bool
    tickets: Iterator[int]


class Receipt(msgspec.Struct, gc=False, eq=False):
    """The outcomes to come of one ``publish`` or ``publish_many``: wait, await, or ignore it.

    Every method may be called from any thread. A receipt that is dropped costs nothing: the deliveries
    go on.

    >>> import rambla_py as rambla
    >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
    >>> with rambla.Rambla(table) as app:
    ...     receipt = app.publish("demo", {"id": 42})
    ...     receipt.outcomes(timeout_s=5)[0].status
    'ok'
    """

    home: Home
    complete: bool = False
    slots: Any = None
    shape: _Shape | None = None
    waiters: list[Callable[[], None]] | None = None
    callbacks: list[Callable[[Receipt], Any]] | None = None

    @classmethod
    def expecting(cls, home: Home, messages: int, targets: int, *, many: bool) -> Receipt:
        """Return a receipt for ``messages`` x ``targets`` deliveries, message by message."""
        size = messages * targets
        if size == 1 and not many:
            return cls(home)
        return cls(home, size == 0, [None] * size, _Shape(size, targets, many, itertools.count(1)))

    def done(self) -> bool:
        """Say whether every delivery has its outcome."""
        return self.complete

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for all deliveries and return what the handlers returned.

        One target: its handler's result. A channel that fans out: a list in config order. ``publish_many``:
        a list of these, by message. Raises ``PublishError`` when a delivery (its fallbacks included) did
        not end as ok, ``ReceiptTimeoutError`` after ``timeout_s`` seconds, ``ForkedError`` in a child.
        """
        if not self.complete:
            self._wait(timeout_s)
        if self.shape is None:
            return self._single_result()
        deliveries = self._deliveries()
        if all(delivery.status == "ok" for delivery in deliveries):
            return _grouped(self.shape, [delivery.result for delivery in deliveries])
        outcomes = self.outcomes()
        if not all(outcome.succeeded for outcome in outcomes):
            raise PublishError(outcomes)
        return _grouped(self.shape, [outcome.final.result for outcome in outcomes])

    def outcomes(self, timeout_s: float | None = None) -> list[Outcome]:
        """Wait for all deliveries; return an outcome for each, message by message, targets in config order.

        Raises ``ReceiptTimeoutError`` and ``ForkedError`` as ``result`` does; never ``PublishError``.
        """
        if not self.complete:
            self._wait(timeout_s)
        return [delivery.outcome() for delivery in self._deliveries()]

    def add_done_callback(self, fn: Callable[[Receipt], Any]) -> None:
        """Call ``fn(receipt)`` once all is done: on a worker's thread, or at once when it is done already."""
        self._refuse_inherited()
        callbacks: list[Callable[[Receipt], Any]] = []
        with _waiting:
            if self.callbacks is None:
                self.callbacks = callbacks
            self.callbacks.append(fn)
        if self.complete:
            for late in self.take_callbacks():
                _call(late, self)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.complete:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self.when_done(lambda: _wake(loop, future))
            yield from future
        return self.result()

    @property
    def level(self) -> Literal["accepted", "journaled", "confirmed", "unknown"]:
        """How far the messages are known to have come: the least of all deliveries."""
        if not self.complete:
            return "accepted"
        statuses = {outcome.final.status for outcome in self.outcomes()}
        if "unknown" in statuses:
            return "unknown"
        return "confirmed" if statuses <= {"ok"} else "accepted"

    def when_done(self, wake: Callable[[], None]) -> None:
        """Call something quick that cannot raise once all is done, on the thread that settles the last."""
        if self.home.forked:
            self._refuse_inherited()
        waiters = [wake]
        with _waiting:
            if self.waiters is None:
                self.waiters = waiters
            else:
                self.waiters.append(wake)
        if self.complete:
            self._release()

    def settle(self, delivery: _Ended) -> bool:
        """Take the end of one delivery; called once for each. Say whether callbacks are due now."""
        shape = self.shape
        if shape is None:
            self.slots = delivery
        else:
            self.slots[delivery.slot] = delivery
            if next(shape.tickets) < shape.size:
                return False
        self.complete = True
        return self.tell()

    def tell(self) -> bool:
        """Release those who wait, now that all is done; say whether callbacks are due."""
        # A waiter is added before it looks at `complete`, and we look for waiters after it was set:
        # whichever comes second sees the other.
        if self.waiters is not None:
            self._release()
        return self.callbacks is not None

    def take_callbacks(self) -> list[Callable[[Receipt], Any]]:
        """Return the functions to call now that all is done; each is returned once."""
        with _waiting:
            taken, self.callbacks = self.callbacks, None
        return taken or []

    def __repr__(self) -> str:
        done, size = len(self._deliveries()), 1 if self.shape is None else self.shape.size
        return f"Receipt({done} of {size} done)"

    def _deliveries(self) -> list[_Ended]:
        found = [self.slots] if self.shape is None else self.slots
        return [delivery for delivery in found if delivery is not None]

    def _single_result(self) -> Any:
        delivery = self.slots
        if delivery.status == "ok":
            return delivery.result
        outcome = delivery.outcome()
        if not outcome.succeeded:
            raise PublishError([outcome])
        return outcome.final.result

    def _wait(self, timeout_s: float | None) -> None:
        gate = threading.Lock()
        gate.acquire()
        self.when_done(gate.release)
        if timeout_s is None:
            gate.acquire()
        else:
            gate.acquire(timeout=max(0.0, timeout_s))
        if not self.complete:
            self._forget(gate.release)
            raise self._late(timeout_s or 0.0)

    def _late(self, timeout_s: float) -> ReceiptTimeoutError:
        found = [self.slots] if self.shape is None else list(self.slots)
        results = [None if delivery is None else delivery.outcome().final.result for delivery in found]
        done = sum(delivery is not None for delivery in found)
        if self.shape is not None:
            results = _grouped(self.shape, results)
        return ReceiptTimeoutError(timeout_s, done, len(found), results)

    def _refuse_inherited(self) -> None:
        if self.home.forked and not self.complete:
            raise ForkedError

    def _forget(self, wake: Callable[[], None]) -> None:
        with _waiting:
            self.waiters = [other for other in self.waiters or () if other != wake] or None

    def _release(self) -> None:
        with _waiting:
            waiters, self.waiters = self.waiters, None
        for wake in waiters or ():
            wake()


def _grouped(shape: _Shape, results: list[Any]) -> Any:
    if shape.targets > 1:
        results = [results[at : at + shape.targets] for at in range(0, len(results), shape.targets)]
    return results if shape.many else results[0]


def _call(callback: Callable[[Receipt], Any], receipt: Receipt) -> None:
    try:
        callback(receipt)
    except (Exception, SystemExit):  # user code, run where another piece of user code is at work
        log.exception("a receipt's callback raised")


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    def finish() -> None:
        if not future.done():
            future.set_result(None)

    # The loop may have ended while its task waited: nobody is left to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(finish)
