"""This module ends deliveries: each is counted, its receipt settled, its callbacks put in line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py.actors.hooks import hooked_after, overrides_after
from rambla_py.errors import DroppedError, ExpiredError, describe
from rambla_py.telemetry.records import log_extra

if TYPE_CHECKING:
    from rambla_py.actors.answers import Answers
    from rambla_py.actors.ledger import Ledger
    from rambla_py.actors.mailbox import Mailbox
    from rambla_py.actors.roster import Roster
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import Delivery
    from rambla_py.outcome import Status
    from rambla_py.telemetry.events import Events

__all__ = ["Endings"]

log = logging.getLogger("rambla_py.delivery")


class Endings:
    """How the deliveries of one target end; whoever ends one is the only one who has it in hand.

    ``fallback`` takes a fatal delivery, and calls back once it has seen to it.
    """

    def __init__(
        self,
        config: ChannelConfig,
        *,
        mailbox: Mailbox,
        ledger: Ledger,
        answers: Answers,
        roster: Roster,
        events: Events,
        redact: Callable[[str], str],
    ) -> None:
        self.fallback: Callable[[Delivery, Callable[[], None]], None] | None = None
        self._name, self._policy = config.name, config.policy
        self._mailbox, self._ledger, self._answers, self._roster = mailbox, ledger, answers, roster
        self._events, self._redact = events, redact
        self._hooked = hooked_after(config.policy) or overrides_after(config.handler)

    def succeed(self, deliveries: Sequence[Delivery], now: float) -> None:
        """End deliveries as ``ok``, with the ``result`` that each has; the hot path's way back."""
        self._ledger.count("ok", len(deliveries))
        plain = not (self._hooked or self._events.listeners)
        policy, after = self._policy, self._answers.after
        for delivery in deliveries:
            delivery.status = "ok"
            delivery.ended_at = now
            delivery.error = None
            if delivery.holds_lane:
                self._release_lane(delivery)
            receipt = delivery.receipt
            if plain and delivery.policy is policy and receipt is not None and receipt.shape is None:
                # What _settle and Receipt.settle do, without a call: this loop is most of the way back.
                delivery.receipt = delivery.encoded = delivery.session = None
                receipt.slots = delivery
                receipt.complete = True
                if (receipt.waiters is not None or receipt.callbacks is not None) and receipt.tell():
                    after.append(receipt)
            else:
                self._settle(delivery)
        self._ledger.ended(deliveries)
        if self._events.listeners:
            for delivery in deliveries:
                self._events.attempted(delivery, None)

    def succeed_answered(self, limit: int) -> None:
        """End up to ``limit`` of those that were settled as delivered, one by one, from other threads."""
        batch = self._answers.take_succeeded(limit)
        if batch:
            self.succeed(batch, time.monotonic())

    def finish(self, delivery: Delivery, status: Status, error: BaseException | None = None) -> None:
        """End one delivery otherwise than as ``ok``."""
        delivery.status, delivery.result, delivery.error = status, None, error
        delivery.ended_at = time.monotonic()
        self._ledger.count(status, reason=None if error is None else _reason(error))
        self._log(delivery, status, error)
        if delivery.holds_lane:
            self._release_lane(delivery)
        if status == "fatal" and self.fallback is not None:
            self.fallback(delivery, lambda: self._end(delivery))
        else:
            self._end(delivery)

    def drop(self, delivery: Delivery, reason: str) -> None:
        """End a delivery as ``dropped``, with what kept it as the cause."""
        cause = self._kept_by(delivery)
        error = DroppedError(reason, self._redact(describe(cause)))
        error.__cause__ = cause
        self.finish(delivery, "dropped", error)

    def expire(self, delivery: Delivery) -> None:
        """End a delivery whose time is over, with what kept it as the cause."""
        cause = self._kept_by(delivery)
        last = self._redact(describe(cause))
        error = ExpiredError(delivery.policy.expires_s or 0.0, delivery.attempts, last)
        error.__cause__ = cause
        self.finish(delivery, "expired", error)

    def _kept_by(self, delivery: Delivery) -> BaseException | None:
        """Return the last error of a delivery; of one without any, why no worker is connected."""
        return delivery.error or self._roster.trouble

    def _end(self, delivery: Delivery) -> None:
        self._settle(delivery)
        self._ledger.ended((delivery,))
        if self._answers.after:
            self._roster.nudge()

    def _settle(self, delivery: Delivery) -> None:
        receipt, after = delivery.receipt, self._answers.after
        delivery.receipt = delivery.encoded = delivery.session = None
        if receipt is not None and receipt.settle(delivery):
            after.append(receipt)
        if self._hooked or (delivery.policy is not self._policy and hooked_after(delivery.policy)):
            after.append(delivery)
        if self._events.listeners:
            self._events.ended(delivery)

    def _release_lane(self, delivery: Delivery) -> None:
        if self._mailbox.release_lane(delivery):
            self._roster.wake_for(delivery)

    def _log(self, delivery: Delivery, status: Status, error: BaseException | None) -> None:
        """Log one error for each bad end; of drops, which come in floods, the first, second, fourth ..."""
        extra = log_extra(delivery, status)
        if status == "dropped":
            number = self._ledger.statuses["dropped"]
            if number & (number - 1) == 0:
                why = "" if error is None else _reason(error)
                log.warning("%s: %d dropped so far: %s", self._name, number, why, extra=extra)
        else:
            attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
            text = self._redact(describe(error))
            log.error("%s: %s after %s: %s", self._name, status, attempts, text, extra=extra)


def _reason(error: BaseException) -> str:
    return error.reason if isinstance(error, DroppedError) else type(error).__name__
