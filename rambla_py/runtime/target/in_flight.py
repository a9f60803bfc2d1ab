"""Deliveries in flight on one connection, each settled once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rambla_py.errors import AttemptTimeoutError, ConnectionLostError, UnknownOutcomeError
from rambla_py.handler import Link, State

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.telemetry.tracing import RequestTrace

__all__ = ["BatchTimeoutError", "InFlight", "Overdue", "UnsentError"]


class UnsentError(ConnectionLostError):
    """The connection was lost before the handler began the message."""


class BatchTimeoutError(AttemptTimeoutError):
    """A batch that is answered as a whole took too long; which message is the cause is unknown."""

    def __init__(self, timeout_s: float, size: int) -> None:
        super().__init__(timeout_s)
        self.size = size


class Overdue(NamedTuple):
    """Deliveries whose attempts timed out, each with its answer.

    ``silent``: the connection has answered nothing since one of them began.
    """

    answers: list[tuple[LiveDelivery, BaseException]]
    silent: bool


class _Clock(NamedTuple):
    began: float
    answers: int


class _Settlements(Protocol):
    succeeded: deque[LiveDelivery]
    results: deque[tuple[InFlight | None, LiveDelivery, Any]]


class InFlight:
    """One connection of a worker, with the deliveries in flight on it.

    A delivery is claimed with one atomic ``pop``, so that late answers, second answers, and answers from an
    earlier connection find nothing and are ignored. ``sent`` has deliveries that are settled one by one,
    with the start of their attempt; popping one claims it. ``batch`` has deliveries that are answered
    together, begun at ``batch_at``; popping the only token claims all of them.

    ``unsent`` has deliveries that the handler has taken but not begun: ``attempt_timeout_s`` does not run for
    them, and they may be taken back. ``answers`` counts all answers, late ones included: if it changes, the
    connection is alive. ``together``: deliveries in ``sent`` are answered batch by batch.
    """

    __slots__ = (
        "_begin_lock",
        "_settlements",
        "_token",
        "_wake",
        "alone",
        "answers",
        "batch",
        "batch_at",
        "error",
        "expiring",
        "held",
        "resumed_at",
        "sent",
        "state",
        "together",
        "unsent",
    )

    def __init__(self, settlements: _Settlements, wake: Callable[[], None]) -> None:
        self._settlements, self._wake = settlements, wake
        self.sent: dict[LiveDelivery, _Clock] = {}
        self.unsent: dict[LiveDelivery, None] = {}
        self._begin_lock = threading.Lock()
        self.batch: Sequence[LiveDelivery] = ()
        self.batch_at = 0.0
        self.state: State = State(None, "", "")
        self.error: BaseException | None = None
        self.held = False
        self.expiring = False
        self.alone = False
        self.answers = 0
        self.together = False
        self._token: deque[None] = deque()
        self.resumed_at = 0.0

    @property
    def in_flight(self) -> int:
        """How many deliveries have no answer yet."""
        if self.sent or self.unsent:
            return len(self.sent) + len(self.unsent) + len(self.batch)
        return len(self.batch)

    @property
    def worker(self) -> int:
        """The number of the worker that has the connection."""
        return self.state.worker

    @property
    def lost(self) -> bool:
        """Whether the connection is lost."""
        return self.error is not None

    def opened(self, state: State) -> None:
        """Record the state that is passed to the handler on this connection."""
        self.state = state

    def link(self, trace: Callable[[Sequence[Any]], RequestTrace | None]) -> Link:
        """Return the functions with which a handler reports on this connection."""
        return Link(self.lose, self.hold, self.wait, self.begin, self.settle_all_ok, trace)

    def answer_together(self) -> None:
        """Record that deliveries in ``sent`` are answered batch by batch."""
        self.together = True

    def begin_together(self, batch: Sequence[LiveDelivery], now: float) -> None:
        """Put a batch in flight that is answered as a whole."""
        for delivery in batch:
            delivery.started_at = now
            delivery.attempts += 1
        self.batch, self.batch_at = batch, now
        self._token.append(None)

    def end_together(self) -> bool:
        """Claim the batch; returns False if it was abandoned meanwhile."""
        try:
            self._token.pop()
        except IndexError:
            return False
        self.batch = ()
        return True

    def begin_each(self, batch: Sequence[LiveDelivery], now: float) -> None:
        """Put deliveries in flight that the handler settles one by one."""
        for delivery in batch:
            delivery.session = self
            delivery.started_at = now
            delivery.attempts += 1
        self.sent.update(dict.fromkeys(batch, _Clock(now, self.answers)))

    def wait(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Record that the handler begins these later, with ``begin``."""
        with self._begin_lock:
            for delivery in deliveries:
                if self.sent.pop(delivery, None) is not None:
                    self.unsent[delivery] = None

    def begin(self, deliveries: Sequence[LiveDelivery]) -> list[LiveDelivery]:
        """Begin deliveries that waited; return them without those that were taken back or abandoned."""
        with self._begin_lock:
            take = self.unsent.pop
            begun = [delivery for delivery in deliveries if take(delivery, self) is None]
            now = time.monotonic()
            for delivery in begun:
                delivery.started_at = now
            self.sent.update(dict.fromkeys(begun, _Clock(now, self.answers)))
        return begun

    def take_back(self, expired_at: float | None = None) -> list[LiveDelivery]:
        """Take back deliveries that the handler has not begun; with ``expired_at`` only expired ones."""
        if not self.unsent:
            return []
        with self._begin_lock:
            taken = [
                delivery
                for delivery in self.unsent
                if expired_at is None or _has_expired(delivery, expired_at)
            ]
            for delivery in taken:
                del self.unsent[delivery]
                delivery.undo_attempt()
        return taken

    def claim(self, delivery: LiveDelivery) -> bool:
        """Claim one delivery; returns False if it is already settled."""
        if self.sent.pop(delivery, None) is not None:
            return True
        if not self.unsent:
            return False
        with self._begin_lock:
            return self.unsent.pop(delivery, self) is not self

    def settle(self, delivery: LiveDelivery, answer: Any) -> None:
        """Record the handler's answer for one delivery; from any thread."""
        self.answers += 1
        if self.claim(delivery):
            self._settlements.results.append((self, delivery, answer))
            self._wake()

    def settle_ok(self, delivery: LiveDelivery, result: Any) -> None:
        """Record a success, which needs no further processing; from any thread."""
        self.answers += 1
        if self.claim(delivery):
            delivery.result = result
            self._settlements.succeeded.append(delivery)
            self._wake()

    def settle_all_ok(self, deliveries: Sequence[LiveDelivery], result: Any) -> None:
        """Record the success of several deliveries; from any thread."""
        self.answers += len(deliveries)
        take = self.sent.pop
        claimed = [one for one in deliveries if take(one, None) is not None or self.claim(one)]
        for delivery in claimed:
            delivery.result = result
        if claimed:
            self._settlements.succeeded.extend(claimed)
            self._wake()

    def abandon(
        self, timeout_s: float, error: BaseException, *, running: BaseException | None = None
    ) -> list[tuple[LiveDelivery, BaseException]]:
        """Claim everything in flight, each with its answer: a time-out, or the loss with ``error``.

        ``running`` is the answer for the batch that the worker itself was attempting, if it differs.
        """
        now = time.monotonic()
        late = AttemptTimeoutError(timeout_s)
        # A request that had no answer by itself may show the loss; for the others it is one all the same.
        known = isinstance(error, UnknownOutcomeError) and error.connection_lost
        lost = error if known else UnknownOutcomeError(str(error))
        batch, answer = self.batch, running or lost
        if self._is_late(self.batch_at, now, timeout_s):
            answer = BatchTimeoutError(timeout_s, len(batch)) if len(batch) > 1 else late
        taken: list[tuple[LiveDelivery, BaseException]] = []
        if self.end_together():
            taken = [(delivery, answer) for delivery in batch]
        with self._begin_lock:
            unsent, self.unsent = self.unsent, {}
        taken += [(delivery, UnsentError(str(error))) for delivery in unsent]
        for delivery in list(self.sent):
            clock = self.sent.pop(delivery, None)
            if clock is not None:
                taken.append((delivery, late if self._is_late(clock.began, now, timeout_s) else lost))
        return taken

    def take_overdue(self, now: float, timeout_s: float) -> Overdue:
        """Claim deliveries in ``sent`` whose attempt began over ``timeout_s`` ago.

        From then on nothing is begun on the connection, until ``reopen``: it may be about to be lost.
        """
        self.expiring = True  # before the first is claimed: a suspect's room must not be seen as free
        taken: dict[LiveDelivery, _Clock] = {}
        for delivery, clock in list(self.sent.items()):
            if not self._is_late(clock.began, now, timeout_s):
                break
            if self.sent.pop(delivery, None) is not None:
                taken[delivery] = clock
        silent = any(clock.answers == self.answers for clock in taken.values())
        whole = self.together and len(taken) > 1
        error = BatchTimeoutError(timeout_s, len(taken)) if whole else AttemptTimeoutError(timeout_s)
        return Overdue([(delivery, error) for delivery in taken], silent)

    def reopen(self) -> None:
        """Take deliveries again after ``take_overdue``, because the connection is sound."""
        self.expiring = False
        self._wake()

    def clear(self) -> None:
        """Ignore all answers from now on: in a forked child the deliveries belong to the parent."""
        self.sent, self.unsent, self.batch = {}, {}, ()
        self._begin_lock = threading.Lock()
        self._token.clear()

    def lose(self, error: BaseException) -> None:
        """Record that the connection is lost; from any thread. Only the first call has an effect."""
        if self.error is None:
            self.error = error
            self._wake()

    def reserve(self, *, alone: bool) -> None:
        """Record whether the batch taken last must be alone on the connection."""
        self.alone = alone

    def hold(self, held: bool) -> None:
        """Take no new messages while ``held``; from any thread."""
        if not held:
            self.resumed_at = time.monotonic()
        self.held = held
        self._wake()

    def overdue(self, now: float, timeout_s: float) -> bool:
        """Return whether the oldest attempt began over ``timeout_s`` ago; False while ``held``."""
        oldest = self._oldest()
        return oldest is not None and self._is_late(oldest, now, timeout_s)

    def _is_late(self, began: float, now: float, timeout_s: float) -> bool:
        return not self.held and now - max(began, self.resumed_at) >= timeout_s

    def _oldest(self) -> float | None:
        if self.batch:
            return self.batch_at
        try:
            clock = next(iter(self.sent.values()), None)
        except RuntimeError:  # changed by another thread meanwhile, so something was just settled
            return None
        return None if clock is None else clock.began


def _has_expired(delivery: LiveDelivery, now: float) -> bool:
    expires_at = delivery.expires_at
    return expires_at is not None and expires_at <= now
