"""Completion of deliveries: counted, receipts settled, callbacks queued."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rambla_py.errors import DroppedError, ExpiredError, UnknownOutcomeError
from rambla_py.runtime.target.callbacks import has_end_callback, overrides_end_callback
from rambla_py.runtime.target.delivery_log import reason_of
from rambla_py.runtime.target.end_sinks import EndSinks
from rambla_py.runtime.target.failures import Failures

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outcome import Status
    from rambla_py.runtime.target.collaborators import Collaborators
    from rambla_py.runtime.target.counters import Counters
    from rambla_py.runtime.target.delivery_log import DeliveryLog
    from rambla_py.runtime.target.durability import Durability
    from rambla_py.runtime.target.mailbox import Mailbox
    from rambla_py.runtime.target.probing import Probing
    from rambla_py.runtime.target.settlements import Settlements
    from rambla_py.runtime.target.state import TargetState
    from rambla_py.runtime.target.wakeup import Wakeup

__all__ = ["Completion"]


class Completion:
    """Ends the deliveries of one target. The caller must hold the claim on a delivery that it ends.

    A delivery that does not end as ``ok`` passes ``end_sinks`` before its receipt is settled; ``failures``
    remembers the last ones.
    """

    def __init__(
        self,
        config: ChannelConfig,
        *,
        mailbox: Mailbox,
        counters: Counters,
        settlements: Settlements,
        wakeup: Wakeup,
        state: TargetState,
        log: DeliveryLog,
        probing: Probing,
        shared: Collaborators[Any],
    ) -> None:
        self.end_sinks = EndSinks()
        self.durability: Durability | None = None
        self.failures = Failures(config)
        self._config, self._name, self._policy = config, config.name, config.policy
        self._mailbox, self._counters, self._settlements, self._wakeup = (
            mailbox,
            counters,
            settlements,
            wakeup,
        )
        self._probing, self._log = probing, log
        self._state, self._observers, self._error_text = state, shared.observers, shared.error_text
        self._has_callbacks = has_end_callback(config.policy) or overrides_end_callback(config.handler)

    def succeed(
        self, deliveries: Sequence[LiveDelivery], now: float, started_at: float | None = None
    ) -> None:
        """End deliveries as ``ok``, each with its ``result``; part of the hot path.

        ``started_at`` is when their common attempt began, if there was one.
        """
        if self.durability is not None:
            self.durability.ended(deliveries, "ok")
        self._counters.succeed(deliveries, now, started_at)
        observers = self._observers
        if observers.attempted:
            self._report_successes(deliveries, now, started_at)
        plain = not self._has_callbacks
        hooks, callbacks = self._policy.callbacks, self._settlements.callbacks
        holding: list[LiveDelivery] = []
        # The same as _settle and Receipt._settle, inlined: this loop is most of the cost of a success.
        # Reading a field takes a fifth of the time of writing it.
        for delivery in deliveries:
            delivery.status = "ok"
            delivery.ended_at = now
            if delivery.error is not None:
                delivery.error = None
            if delivery.holds_lane:
                holding.append(delivery)
            receipt = delivery.receipt
            if not plain or receipt is None or delivery.policy.callbacks is not hooks:
                self._settle(delivery)
                continue
            delivery.receipt = None
            if delivery.encoded is not None:
                delivery.encoded = None
            if delivery.session is not None:
                delivery.session = None
            if receipt._shape is not None:
                if receipt._settle(delivery):
                    callbacks.append(receipt)
                continue
            receipt._ended = delivery
            if (receipt._waiters is not None or receipt._callbacks is not None) and receipt._notify():
                callbacks.append(receipt)
        if holding:
            self._release_lanes(holding)
        # Before the counters, which wake flushes: what an observer counts is exact after a flush.
        for ended in observers.ended:
            ended(self._config, deliveries, "ok")
        self._counters.ended(deliveries)
        if self._probing.active:
            self._probing.succeeded(deliveries, now)

    def succeed_answered(self, limit: int) -> None:
        """End up to ``limit`` deliveries that other threads settled as delivered."""
        batch = self._settlements.take_succeeded(limit)
        if batch:
            self.succeed(batch, time.monotonic())

    def fail_attempt(self, delivery: LiveDelivery, error: BaseException, now: float) -> None:
        """Record an attempt that failed, was lost, or has an unknown outcome; decides nothing."""
        started_at = delivery.started_at
        if started_at:
            self._counters.fail_attempt(now - started_at)
            for attempted in self._observers.attempted:
                attempted(self._config, (delivery,), started_at, now, error)

    def _report_successes(
        self, deliveries: Sequence[LiveDelivery], now: float, started_at: float | None
    ) -> None:
        batches = [(started_at, deliveries)]
        if started_at is None:
            groups = groupby(deliveries, key=attrgetter("started_at"))
            batches = [(began, list(together)) for began, together in groups]
        for began, together in batches:
            for attempted in self._observers.attempted:
                attempted(self._config, together, began, now, None)

    def finish(self, delivery: LiveDelivery, status: Status, error: BaseException | None = None) -> None:
        """End one delivery with a status other than ``ok``."""
        delivery.end(status, error, time.monotonic())
        if delivery.history is not None and delivery.history.probing is not None:
            self._probing.inconclusive(delivery)
        self._counters.count(status, reason=None if error is None else reason_of(error))
        self._log.ended(delivery, status, error)
        if delivery.holds_lane:
            self._release_lanes((delivery,))
        self.end_sinks.take(delivery, lambda: self._end(delivery))

    def drop(self, delivery: LiveDelivery, reason: str) -> None:
        """End a delivery as ``dropped``, with its last error as the cause.

        It ends as ``unknown`` if an earlier attempt may have reached the backend. At a stop, one that is in
        the outbox stays there.
        """
        if reason == "stopped" and delivery.stored is not None:
            self.keep(delivery)
            return
        cause = self._cause_of(delivery)
        if delivery.maybe_sent:
            self.finish(delivery, "unknown", _caused(UnknownOutcomeError(f"{reason} before a retry"), cause))
            return
        self.finish(delivery, "dropped", _caused(DroppedError(reason, self._error_text(cause)), cause))

    def interrupt(self, delivery: LiveDelivery, error: BaseException) -> None:
        """End a delivery without an answer at a stop: as ``unknown``, unless the outbox keeps it."""
        if delivery.stored is not None and self._config.on_unknown == "retry":
            delivery.unanswered()
            self.keep(delivery)
        else:
            self.finish(delivery, "unknown", error)

    def keep(self, delivery: LiveDelivery) -> None:
        """Leave a delivery without an outcome in the outbox, where it is stored."""
        if delivery.history is not None and delivery.history.probing is not None:
            self._probing.inconclusive(delivery)
        if self.durability is not None:
            self.durability.kept(delivery)
        if delivery.holds_lane:
            self._release_lanes((delivery,))
        receipt = delivery.receipt
        delivery.release()
        self._counters.keep((delivery,))
        if receipt is not None:
            receipt._keep(delivery.id)

    def leave(self, delivery: LiveDelivery) -> None:
        """Let go of a delivery that has ended, and whose fallback stays in the outbox for another run."""
        receipt = delivery.receipt
        delivery.release()
        self._counters.ended((delivery,))
        if receipt is not None:
            receipt._keep(delivery.id)

    def expire(self, delivery: LiveDelivery) -> None:
        """End a delivery that has expired, with its last error as the cause.

        It ends as ``unknown`` if an earlier attempt may have reached the backend.
        """
        cause = self._cause_of(delivery)
        last = self._error_text(cause)
        error = ExpiredError(delivery.policy.expires_s or 0.0, delivery.attempts, last)
        if delivery.maybe_sent:
            self.finish(delivery, "unknown", _caused(UnknownOutcomeError(str(error)), cause))
        else:
            self.finish(delivery, "expired", _caused(error, cause))

    def attempted(self, delivery: LiveDelivery, due: float | None) -> None:
        """Record an attempt of a stored delivery that is to be tried again, at ``due`` at the earliest."""
        if self.durability is not None:
            self.durability.attempted(delivery, due)

    def _cause_of(self, delivery: LiveDelivery) -> BaseException | None:
        """Return a delivery's last error; if it has none, what keeps the target from working, or None."""
        return delivery.error or self._state.obstacle

    def _end(self, delivery: LiveDelivery) -> None:
        self.failures.add(delivery)
        if self.durability is not None and delivery.status is not None:
            self.durability.ended((delivery,), delivery.status)
        self._settle(delivery)
        for ended in self._observers.ended:
            ended(self._config, (delivery,), delivery.status)
        self._counters.ended((delivery,))
        if self._settlements.callbacks:
            self._wakeup.wake_all()

    def _settle(self, delivery: LiveDelivery) -> None:
        receipt, callbacks = delivery.receipt, self._settlements.callbacks
        delivery.release()
        if receipt is not None and receipt._settle(delivery):
            callbacks.append(receipt)
        if self._has_callbacks or (delivery.policy is not self._policy and has_end_callback(delivery.policy)):
            callbacks.append(delivery)

    def _release_lanes(self, deliveries: Sequence[LiveDelivery]) -> None:
        self._wakeup.wake_workers(self._mailbox.release_lanes(deliveries))


def _caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error
