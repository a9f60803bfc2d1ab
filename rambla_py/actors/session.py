"""This module tracks what is in flight on one connection, so that each delivery is settled once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.errors import AttemptTimeoutError, UnknownOutcomeError
from rambla_py.handler import Link, State

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Session"]


class _Desk(Protocol):
    def hand_in(self, session: Session, delivery: Delivery, answer: Any) -> None: ...

    def nudge(self) -> None: ...


class Session:
    """A worker's life on one connection.

    ``in_flight`` maps each unsettled delivery to the time its attempt began. Taking a delivery out of it is
    the right to settle it: a dict's ``pop`` gives it to one thread only, so a late answer, one given twice,
    and one from an earlier connection find nothing and are ignored.
    """

    __slots__ = ("_desk", "_resumed_at", "alone", "error", "held", "in_flight", "state")

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self.in_flight: dict[Delivery, float] = {}
        self.state: State = State(None, "", "")
        self.error: BaseException | None = None
        self.held = False
        self.alone = False
        self._resumed_at = 0.0

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.error is not None

    def link(self) -> Link:
        """Return what the handler may say about this connection."""
        return Link(lost=self.lose, hold=self.hold)

    def begin(self, batch: Iterable[Delivery], now: float) -> None:
        """Put a batch in flight."""
        for delivery in batch:
            delivery.session = self
            delivery.started_at = now
            delivery.attempts += 1
        self.in_flight.update(dict.fromkeys(batch, now))

    def claim(self, delivery: Delivery) -> bool:
        """Take the right to settle a delivery; False when it is settled already."""
        return self.in_flight.pop(delivery, None) is not None

    def claim_all(self) -> list[Delivery]:
        """Take the right to settle all that is in flight, the oldest first."""
        return [delivery for delivery in list(self.in_flight) if self.claim(delivery)]

    def give_up(self, timeout_s: float, error: BaseException) -> list[tuple[Delivery, BaseException]]:
        """Take all that is in flight, each with what is to be said of it: overdue, or lost with ``error``."""
        now = time.monotonic()
        started = dict(self.in_flight)
        lost = error if isinstance(error, UnknownOutcomeError) else UnknownOutcomeError(str(error))
        late = AttemptTimeoutError(timeout_s)
        return [
            (delivery, late if now - started.get(delivery, now) >= timeout_s else lost)
            for delivery in self.claim_all()
        ]

    def settle(self, delivery: Delivery, answer: Any) -> None:
        """Take a handler's answer for one delivery; from any thread."""
        if self.claim(delivery):
            self._desk.hand_in(self, delivery, answer)

    def lose(self, error: BaseException) -> None:
        """Take the connection as gone; from any thread, once."""
        if self.error is None:
            self.error = error
            self._desk.nudge()

    def hold(self, held: bool) -> None:
        """Stop, or start, taking new messages; from any thread."""
        if not held:
            self._resumed_at = time.monotonic()
        self.held = held
        self._desk.nudge()

    def overdue(self, now: float, timeout_s: float) -> bool:
        """Say whether the oldest attempt began over ``timeout_s`` ago; a held connection has no clock."""
        if self.held:
            return False
        try:
            oldest = next(iter(self.in_flight.values()), None)
        except RuntimeError:  # settled by another thread while we looked: it is moving
            return False
        return oldest is not None and now - max(oldest, self._resumed_at) >= timeout_s
