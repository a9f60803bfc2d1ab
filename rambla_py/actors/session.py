"""This module tracks what is in flight on one connection, so that each delivery is settled once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.errors import AttemptTimeoutError, ConnectionLostError, UnknownOutcomeError
from rambla_py.handler import Link, State

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Session"]


class _Desk(Protocol):
    succeeded: deque[Delivery]
    handed_in: deque[tuple[Session | None, Delivery, Any]]


class Session:
    """A worker's life on one connection, with what is in flight on it.

    The right to settle is taken by one atomic ``pop``, so a late answer, one given twice, and one from an
    earlier connection find nothing and are ignored. Deliveries that a handler settles one by one stand in
    ``flying``, with the time their attempt began; popping one is the right to it. A batch whose answers come
    together is ``batch``, begun at ``batch_at``; popping its only token is the right to all of it.

    What a handler took and has not begun with stands in ``unsent``: it has no clock, and may be taken back.
    """

    __slots__ = (
        "_begin_lock",
        "_desk",
        "_nudge",
        "_resumed_at",
        "_token",
        "alone",
        "batch",
        "batch_at",
        "error",
        "flying",
        "held",
        "state",
        "unsent",
    )

    def __init__(self, desk: _Desk, nudge: Callable[[], None]) -> None:
        self._desk, self._nudge = desk, nudge
        self.flying: dict[Delivery, float] = {}
        self.unsent: dict[Delivery, None] = {}
        self._begin_lock = threading.Lock()
        self.batch: Sequence[Delivery] = ()
        self.batch_at = 0.0
        self.state: State = State(None, "", "")
        self.error: BaseException | None = None
        self.held = False
        self.alone = False
        self._token: deque[None] = deque()
        self._resumed_at = 0.0

    @property
    def in_flight(self) -> int:
        """How many deliveries have no answer yet."""
        return len(self.flying) + len(self.unsent) + len(self.batch)

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.error is not None

    def link(self) -> Link:
        """Return what the handler may say about this connection."""
        return Link(lost=self.lose, hold=self.hold, wait=self.wait, begin=self.begin)

    def begin_together(self, batch: Sequence[Delivery], now: float) -> None:
        """Put a batch in flight whose answers come together."""
        for delivery in batch:
            delivery.started_at = now
            delivery.attempts += 1
        self.batch, self.batch_at = batch, now
        self._token.append(None)

    def end_together(self) -> bool:
        """Take the right to settle the batch; False when it was given up meanwhile."""
        try:
            self._token.pop()
        except IndexError:
            return False
        self.batch = ()
        return True

    def begin_each(self, batch: Sequence[Delivery], now: float) -> None:
        """Put deliveries in flight that the handler settles one by one."""
        for delivery in batch:
            delivery.session = self
            delivery.started_at = now
            delivery.attempts += 1
        self.flying.update(dict.fromkeys(batch, now))

    def wait(self, deliveries: Sequence[Delivery]) -> None:
        """Take note that a handler will begin with these later, and say so then."""
        with self._begin_lock:
            for delivery in deliveries:
                if self.flying.pop(delivery, None) is not None:
                    self.unsent[delivery] = None

    def begin(self, delivery: Delivery) -> bool:
        """Begin with one that waited; False when it was taken back, or given up."""
        with self._begin_lock:
            if delivery not in self.unsent:
                return False
            del self.unsent[delivery]
            delivery.started_at = self.flying[delivery] = time.monotonic()
            return True

    def take_back(self, expired_at: float | None = None) -> list[Delivery]:
        """Take what the handler has not begun with, as if it had not been handed over; or what expired."""
        if not self.unsent:
            return []
        with self._begin_lock:
            taken = [
                delivery for delivery in self.unsent if expired_at is None or _is_over(delivery, expired_at)
            ]
            for delivery in taken:
                del self.unsent[delivery]
                delivery.attempts -= 1
        return taken

    def claim(self, delivery: Delivery) -> bool:
        """Take the right to settle one of those; False when it is settled already."""
        if self.flying.pop(delivery, None) is not None:
            return True
        if not self.unsent:
            return False
        with self._begin_lock:
            return self.unsent.pop(delivery, self) is not self

    def settle(self, delivery: Delivery, answer: Any) -> None:
        """Take a handler's answer for one delivery; from any thread."""
        if self.claim(delivery):
            self._desk.handed_in.append((self, delivery, answer))
            self._nudge()

    def settle_ok(self, delivery: Delivery, result: Any) -> None:
        """Take a success, which nobody has to judge; from any thread."""
        if self.claim(delivery):
            delivery.result = result
            self._desk.succeeded.append(delivery)
            self._nudge()

    def give_up(
        self, timeout_s: float, error: BaseException, *, running: BaseException | None = None
    ) -> list[tuple[Delivery, BaseException]]:
        """Take all that is in flight, each with what is to be said of it: overdue, or lost with ``error``.

        ``running`` is said of the batch that the worker itself was busy with, where that is something else.
        """
        now = time.monotonic()
        late = AttemptTimeoutError(timeout_s)
        lost = error if isinstance(error, UnknownOutcomeError) else UnknownOutcomeError(str(error))
        batch, answer = self.batch, late if now - self.batch_at >= timeout_s else running or lost
        taken: list[tuple[Delivery, BaseException]] = []
        if self.end_together():
            taken = [(delivery, answer) for delivery in batch]
        with self._begin_lock:
            unsent, self.unsent = self.unsent, {}
        unwritten = error if isinstance(error, ConnectionLostError) else ConnectionLostError(str(error))
        taken += [(delivery, unwritten) for delivery in unsent]
        for delivery in list(self.flying):
            began = self.flying.pop(delivery, None)
            if began is not None:
                taken.append((delivery, late if now - began >= timeout_s else lost))
        return taken

    def forget(self) -> None:
        """Let nobody settle anything; in a forked child, where all of it is the parent's."""
        self.flying, self.unsent, self.batch = {}, {}, ()
        self._begin_lock = threading.Lock()
        self._token.clear()

    def lose(self, error: BaseException) -> None:
        """Take the connection as gone; from any thread, once."""
        if self.error is None:
            self.error = error
            self._nudge()

    def hold(self, held: bool) -> None:
        """Stop, or start, taking new messages; from any thread."""
        if not held:
            self._resumed_at = time.monotonic()
        self.held = held
        self._nudge()

    def overdue(self, now: float, timeout_s: float) -> bool:
        """Say whether the oldest attempt began over ``timeout_s`` ago; a held connection has no clock."""
        oldest = None if self.held else self._oldest()
        return oldest is not None and now - max(oldest, self._resumed_at) >= timeout_s

    def _oldest(self) -> float | None:
        if self.batch:
            return self.batch_at
        try:
            return next(iter(self.flying.values()), None)
        except RuntimeError:  # settled by another thread while we looked: it is moving
            return None


def _is_over(delivery: Delivery, now: float) -> bool:
    expires_at = delivery.expires_at
    return expires_at is not None and expires_at <= now
