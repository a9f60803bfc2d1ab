"""What ``publish`` returns: the outcomes to come."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from rambla_py._internal.durations import DEFAULT, Default, time_limit
from rambla_py._internal.receipt_places import Pair, Shape
from rambla_py._internal.waiting import (
    Pauses,
    pauses,
    wait_for,
    wait_until_over,
    wait_until_over_async,
    warn_in_event_loop,
)
from rambla_py.errors import ForkedError, KeptError, PublishError, ReceiptTimeoutError

if TYPE_CHECKING:
    from rambla_py.outcome import Outcome, Status

__all__ = ["DurableReceipt", "Home", "Receipt", "ReceiptHome"]

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
    """The app and the process that a receipt was made in; a fork marks it in the child.

    ``result_timeout_s`` bounds the waits without a time; ``obstacles`` says what messages are waiting for.
    """

    __slots__ = ("forked", "obstacles", "result_timeout_s")

    def __init__(
        self, result_timeout_s: float = 60.0, obstacles: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self.forked = False
        self.result_timeout_s, self.obstacles = result_timeout_s, obstacles

    def release(self) -> None:
        """Do nothing: no delivery waits for a batch to fill."""


class ReceiptHome(Protocol):
    """A ``Home`` as receipts use it; ``release`` is called when a thread or a task waits for one."""

    @property
    def forked(self) -> bool:
        """Whether this process is a forked child of the one that the receipt was made in."""

    @property
    def result_timeout_s(self) -> float:
        """The bound of a wait without a time."""

    def obstacles(self) -> Sequence[str]:
        """Return, for each target with messages that cannot be attempted now, why."""

    def release(self) -> None:
        """Let the awaited deliveries be attempted without waiting for a batch to fill."""


class Receipt(msgspec.Struct, gc=False, eq=False):
    """The outcomes to come of one ``publish`` or ``publish_many``: wait, await, or ignore it.

    Every method may be called from any thread. A receipt that is dropped costs nothing: the deliveries
    go on, as they do when an await is cancelled.

    Times are in seconds; ``None`` and ``inf`` mean no limit. Without a time, a wait goes on until none of
    the awaited deliveries has ended for ``[rambla] result_timeout_s`` (60) seconds.

    >>> import rambla_py as rambla
    >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
    >>> with rambla.Rambla(table) as app:
    ...     receipt = app.publish("demo", {"id": 42})
    ...     receipt.outcomes(timeout_s=5)[0].status
    'ok'
    """

    # None until all have ended; then the only delivery, or all of them.
    _home: ReceiptHome
    _ended: Any = None
    _shape: Shape | Pair | None = None
    _waiters: list[Callable[[], None]] | None = None
    _callbacks: list[Callable[[Receipt], Any]] | None = None
    # All of its messages are in the outbox; those with these ids have no outcome in this process.
    _journaled: bool = False
    _kept: list[str] | None = None

    # -- for everyone ---------------------------------------------------------------------------------

    def done(self) -> bool:
        """Return whether every delivery has its outcome."""
        return self._ended is not None

    def result(self, timeout_s: float | Default | None = DEFAULT) -> Any:
        """Wait for all deliveries and return what the handlers returned.

        One target: its handler's result. A channel that fans out: a list in config order. ``publish_many``:
        a list of these, by message. Raises ``PublishError`` when a delivery (its fallbacks included) did
        not end as ok, ``ReceiptTimeoutError`` when the time is over, ``KeptError`` when a durable message
        stays in the outbox, ``ForkedError`` in a child, ``OptionError`` for a time that is none. In a running
        event loop it emits a ``RuntimeWarning`` and blocks: use ``await receipt`` or ``aresult``.
        """
        if timeout_s is not DEFAULT:
            timeout_s = time_limit(timeout_s)
        if self._ended is None:
            warn_in_event_loop("Receipt.result()", "receipt.aresult()")
            self._wait(timeout_s)
        return self._result()

    def outcomes(self, timeout_s: float | Default | None = DEFAULT) -> list[Outcome]:
        """Wait for all deliveries; return an outcome for each, message by message, targets in config order.

        Raises ``ReceiptTimeoutError``, ``KeptError``, ``ForkedError`` and ``OptionError`` as ``result`` does;
        never ``PublishError``.
        """
        if timeout_s is not DEFAULT:
            timeout_s = time_limit(timeout_s)
        if self._ended is None:
            warn_in_event_loop("Receipt.outcomes()", "receipt.aoutcomes()")
            self._wait(timeout_s)
        return self._outcomes()

    async def aresult(self, timeout_s: float | Default | None = DEFAULT) -> Any:
        """Wait as ``result`` does, without blocking the event loop."""
        await self._wait_async(timeout_s)
        return self._result()

    async def aoutcomes(self, timeout_s: float | Default | None = DEFAULT) -> list[Outcome]:
        """Wait as ``outcomes`` does, without blocking the event loop."""
        await self._wait_async(timeout_s)
        return self._outcomes()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.aresult().__await__()

    def add_done_callback(self, fn: Callable[[Receipt], Any]) -> None:
        """Call ``fn(receipt)`` once all is done: on a worker's thread, or at once when it is done already."""
        self._refuse_inherited()
        callbacks: list[Callable[[Receipt], Any]] = []
        with _waiting:
            if self._callbacks is None:
                self._callbacks = callbacks
            self._callbacks.append(fn)
        if self._ended is not None:
            self._call_back()

    @property
    def level(self) -> Literal["accepted", "journaled", "confirmed", "unknown"]:
        """How far the messages are known to have come: the least of all deliveries."""
        if self._ended is None:
            return "journaled" if self._journaled else "accepted"
        statuses = {outcome.final.status for outcome in self._outcomes()}
        if "unknown" in statuses:
            return "unknown"
        return "confirmed" if statuses <= {"ok"} else "accepted"

    def __repr__(self) -> str:
        return f"Receipt({self._count_done()} of {self._size()} done)"

    # -- for the runtime ------------------------------------------------------------------------------

    @classmethod
    def _expecting(cls, home: ReceiptHome, messages: int, targets: int, *, many: bool) -> Receipt:
        """Return a receipt for ``messages`` x ``targets`` deliveries, message by message."""
        size = messages * targets
        if size == 1 and not many:
            return cls(home)
        if targets == 2 and messages == 1 and not many:
            return cls(home, None, Pair())
        slots: list[Any] = [None] * size
        return cls(home, None if size else slots, Shape(size, targets, many, [*range(size)], slots))

    def _when_done(self, wake: Callable[[], None]) -> None:
        """Call something quick that cannot raise once all is done, on the thread that settles the last."""
        if self._home.forked:
            self._refuse_inherited()
        waiters = [wake]
        with _waiting:
            if self._waiters is None:
                self._waiters = waiters
            else:
                self._waiters.append(wake)
        if self._ended is not None or self._kept is not None:
            self._release()

    def _when_awaited(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` as ``_when_done`` does; deliveries that wait for a batch to fill wait no longer."""
        self._when_done(wake)
        if self._ended is None:
            self._home.release()

    @property
    def _awaited(self) -> bool:
        return self._waiters is not None

    def _store(self, *, whole: bool) -> None:
        """Record that the messages are in the outbox, if the ``whole`` call is."""
        self._journaled = whole

    def _keep(self, message_id: str) -> None:
        """Record that a message stays in the outbox: its outcome will not be known here."""
        with _waiting:
            self._kept = [*(self._kept or ()), message_id]
        self._release()

    def _settle(self, delivery: _Ended) -> bool:
        """Record the end of one delivery, once for each; return whether callbacks are due now."""
        shape = self._shape
        if shape is None:
            self._ended = delivery
        elif type(shape) is Shape:
            shape.slots[delivery.slot] = delivery
            if shape.tickets.pop() > 0:
                return False
            self._ended = shape
        elif shape.put(delivery):
            self._ended = shape
        else:
            return False
        return self._notify()

    def _notify(self) -> bool:
        """Notify the waiters, now that all is done; return whether callbacks are due."""
        # A waiter is added before it looks at `_ended`, and we look for waiters after it was set:
        # whichever comes second sees the other.
        if self._waiters is not None:
            self._release()
        return self._callbacks is not None

    def _take_callbacks(self) -> list[Callable[[Receipt], Any]]:
        """Return the functions to call now that all is done; each is returned once."""
        with _waiting:
            taken, self._callbacks = self._callbacks, None
        return taken or []

    def _call_back(self) -> None:
        """Call the functions now that all is done, on this thread; what they raise is logged."""
        for callback in self._take_callbacks():
            _call(callback, self)

    # -- inside ---------------------------------------------------------------------------------------

    def _result(self) -> Any:
        if self._shape is None:
            return self._single_result()
        deliveries = self._deliveries()
        if all(delivery.status == "ok" for delivery in deliveries):
            return _grouped(self._shape, [delivery.result for delivery in deliveries])
        outcomes = self._outcomes()
        if not all(outcome.succeeded for outcome in outcomes):
            raise PublishError(outcomes)
        return _grouped(self._shape, [outcome.final.result for outcome in outcomes])

    def _single_result(self) -> Any:
        delivery = self._ended
        if delivery.status == "ok":
            return delivery.result
        outcome = delivery.outcome()
        if not outcome.succeeded:
            raise PublishError([outcome])
        return outcome.final.result

    def _outcomes(self) -> list[Outcome]:
        return [delivery.outcome() for delivery in self._deliveries()]

    def _deliveries(self) -> list[_Ended]:
        found = [self._ended] if self._shape is None else self._shape.slots
        return [delivery for delivery in found if delivery is not None]

    def _count_done(self) -> int:
        return len(self._deliveries())

    def _size(self) -> int:
        return 1 if self._shape is None else self._shape.size

    def _wait(self, timeout_s: float | Default) -> None:
        if self._home.forked:
            self._refuse_inherited()
        if self._shape is None:  # one delivery makes no progress but its end, which would renew the time
            time_s = self._home.result_timeout_s if timeout_s is DEFAULT else timeout_s
            if time_s > 0:
                wait_for(self._when_awaited, self._forget, time_s)
        else:
            wait_until_over(_Done(self), self._pauses(timeout_s))
        if self._ended is None:
            raise self._late(timeout_s) if self._kept is None else KeptError(self._kept)

    async def _wait_async(self, timeout_s: float | Default | None) -> None:
        limit = timeout_s if isinstance(timeout_s, Default) else time_limit(timeout_s)
        if self._ended is not None:
            return
        self._refuse_inherited()
        await wait_until_over_async(_Done(self), self._pauses(limit))
        if self._ended is None:
            raise self._late(limit) if self._kept is None else KeptError(self._kept)

    def _pauses(self, timeout_s: float | Default) -> Pauses:
        return pauses(timeout_s, self._home.result_timeout_s, self._count_done)

    def _late(self, timeout_s: float | Default) -> ReceiptTimeoutError:
        found = [self._ended] if self._shape is None else list(self._shape.slots)
        results = [None if delivery is None else delivery.outcome().final.result for delivery in found]
        done = sum(delivery is not None for delivery in found)
        if self._shape is not None:
            results = _grouped(self._shape, results)
        quiet = isinstance(timeout_s, Default)
        after_s = self._home.result_timeout_s if isinstance(timeout_s, Default) else timeout_s
        obstacles = self._home.obstacles()
        return ReceiptTimeoutError(after_s, done, len(found), results, quiet=quiet, obstacles=obstacles)

    def _refuse_inherited(self) -> None:
        if self._home.forked and self._ended is None:
            raise ForkedError

    def _forget(self, wake: Callable[[], None]) -> None:
        with _waiting:
            self._waiters = [other for other in self._waiters or () if other is not wake] or None

    def _release(self) -> None:
        with _waiting:
            waiters, self._waiters = self._waiters, None
        for wake in waiters or ():
            wake()


class DurableReceipt(Receipt, gc=True, weakref=True, eq=False):
    """A receipt of a call to a durable channel.

    A row that waits in the outbox refers to it weakly, so that a million of them cost no memory.
    """


class _Done:
    """A receipt as something to wait for."""

    __slots__ = ("forget", "when_set")

    def __init__(self, receipt: Receipt) -> None:
        self.when_set, self.forget = receipt._when_awaited, receipt._forget


def _grouped(shape: Shape | Pair, results: list[Any]) -> Any:
    if shape.targets > 1:
        results = [results[at : at + shape.targets] for at in range(0, len(results), shape.targets)]
    return results if shape.many else results[0]


def _call(callback: Callable[[Receipt], Any], receipt: Receipt) -> None:
    try:
        callback(receipt)
    except (Exception, SystemExit):  # user code, run where another piece of user code is at work
        log.exception("a receipt's callback raised")
