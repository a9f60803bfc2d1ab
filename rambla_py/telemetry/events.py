"""Events: what observers are called with, one by one and redacted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outcome import Outcome, Status
    from rambla_py.telemetry.observer import ConnectionState, ObservedTarget, OutboxState

__all__ = ["Event", "EventObserver", "Kind"]

Kind = Literal[
    "published", "attempt", "outcome", "worker", "refused", "journaled", "adopted", "dead", "lease_lost"
]


class Event(msgspec.Struct, frozen=True):
    """An event: its ``kind``, target, time (``at``, seconds since the epoch), and its fields in ``data``.

    For one message the order is ``published``, each ``attempt``, ``outcome``. The fields are JSON-ready and
    redacted; they never include payloads, headers or keys.

    ``published``: message_id. ``attempt``: message_id, attempts, took_s, error, error_type (both None for a
    success). ``outcome``: message_id, status, attempts, queued_s, took_s, error, error_type, fallback.
    ``worker``: worker, state, error, error_type. ``refused``, ``adopted``: number. ``journaled``, ``dead``,
    ``lease_lost``: message_id.
    """

    kind: Kind
    service: str
    channel: str
    at: float
    data: dict[str, Any]


class EventObserver:
    """An observer that calls one listener with events."""

    def __init__(
        self,
        listener: Callable[[Event], Any],
        error_text: Callable[[BaseException | None], str],
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._listener, self._error_text, self._epoch = listener, error_text, epoch

    def published(self, target: ObservedTarget, delivery: LiveDelivery) -> None:
        """Report an accepted delivery."""
        self._emit("published", target, message_id=delivery.id)

    def attempted(
        self,
        target: ObservedTarget,
        deliveries: Sequence[LiveDelivery],
        started_at: float,
        ended_at: float,
        error: BaseException | None,
    ) -> None:
        """Report each attempt."""
        took_s, failure = max(0.0, ended_at - started_at), self._error(error)
        for delivery in deliveries:
            self._emit(
                "attempt",
                target,
                message_id=delivery.id,
                attempts=delivery.attempts,
                took_s=took_s,
                **failure,
            )

    def ended(self, target: ObservedTarget, deliveries: Sequence[LiveDelivery], status: Status) -> None:
        """Report how each delivery ended."""
        for delivery in deliveries:
            outcome = delivery.outcome()
            self._emit(
                "outcome",
                target,
                message_id=outcome.message_id,
                status=status,
                attempts=outcome.attempts,
                queued_s=outcome.queued_s,
                took_s=outcome.took_s,
                fallback=_fallback(outcome.fallback),
                **self._error(outcome.error),
            )

    def connection(
        self, target: ObservedTarget, worker: int, state: ConnectionState, error: BaseException | None
    ) -> None:
        """Report a change of a connection."""
        self._emit("worker", target, worker=worker, state=state, **self._error(error))

    def refused(self, target: ObservedTarget, number: int) -> None:
        """Report publishes that raised."""
        self._emit("refused", target, number=number)

    def outbox(
        self, target: ObservedTarget, state: OutboxState, number: int, message_ids: Sequence[str]
    ) -> None:
        """Report what the outbox did with each message; messages that it took over are counted only."""
        if state == "adopted":
            self._emit(state, target, number=number)
        for message_id in message_ids:
            self._emit(state, target, message_id=message_id)

    def _emit(self, kind: Kind, target: ObservedTarget, **data: Any) -> None:
        self._listener(Event(kind, target.service, target.channel, self._epoch(), data))

    def _error(self, error: BaseException | None) -> dict[str, str | None]:
        if error is None:
            return {"error": None, "error_type": None}
        return {"error": self._error_text(error), "error_type": type(error).__name__}


def _fallback(outcome: Outcome | None) -> dict[str, str] | None:
    if outcome is None:
        return None
    return {"service": outcome.service, "channel": outcome.channel, "status": outcome.status}
