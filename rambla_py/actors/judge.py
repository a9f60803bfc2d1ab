"""This module turns the answer to an attempt into what follows: an end, a retry, a new try after a loss."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py.actors.hooks import hook_of
from rambla_py.actors.mailbox import ALONE_AFTER_LOSSES
from rambla_py.errors import (
    AttemptTimeoutError,
    ConnectionLostError,
    DeliveryError,
    UnknownOutcomeError,
    describe,
)
from rambla_py.message import Failed, Ok, Retry, Stop
from rambla_py.policy import Again, End, after_failure, backoff_delay, is_retryable
from rambla_py.receipt import Receipt
from rambla_py.telemetry.records import log_extra

if TYPE_CHECKING:
    from rambla_py.actors.target import Target
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Handler
    from rambla_py.outcome import Outcome

__all__ = ["Judge", "Undecided"]

log = logging.getLogger("rambla_py.delivery")


class Undecided(NamedTuple):
    """The answer about a delivery whose callback hung: go on as if it had said None."""

    go_on: Callable[[Judge, Any], None]


class Judge:
    """Judges answers on a worker's thread and asks the callbacks; the decisions are those of ``policy``."""

    def __init__(
        self,
        target: Target,
        handler: Handler,
        resolved: Callable[[Any], Any],
        uniform: Callable[[], float] = random.random,
        *,
        asking: bool = True,
    ) -> None:
        self._target, self._handler, self._resolved, self._uniform = target, handler, resolved, uniform
        self._endings = target.endings
        self._asking = asking
        self._limbo: dict[Delivery, Callable[[Judge, Any], None]] = {}

    @property
    def in_limbo(self) -> int:
        """How many deliveries wait for what a callback says of them."""
        return len(self._limbo)

    def abandon(self) -> list[tuple[Delivery, Undecided]]:
        """Take from a judge whose callback hangs what it was asked about, for another judge to decide."""
        taken = []
        for delivery in list(self._limbo):
            go_on = self._limbo.pop(delivery, None)
            if go_on is not None:
                taken.append((delivery, Undecided(go_on)))
        return taken

    def judge(self, delivery: Delivery, answer: Any) -> None:
        """Take the answer to one attempt; the caller holds the claim on the delivery."""
        delivery.ended_at = time.monotonic()
        if isinstance(answer, Undecided):
            answer.go_on(self, None)
        elif isinstance(answer, UnknownOutcomeError):
            self._unknown(delivery, answer)
        elif isinstance(answer, AttemptTimeoutError) and self._target.config.on_unknown == "report":
            self._endings.finish(delivery, "unknown", answer)
        elif isinstance(answer, ConnectionLostError):
            self._lost(delivery, answer)
        elif isinstance(answer, Failed):
            self._fail(delivery, _error_of(answer), retryable=answer.retryable)
        elif isinstance(answer, BaseException):
            self._fail(delivery, answer, retryable=is_retryable(answer))
        else:
            delivery.result = answer.result if isinstance(answer, Ok) else answer
            self._endings.succeed((delivery,), delivery.ended_at)

    def run_after(self, item: Delivery | Receipt) -> None:
        """Run the callbacks that come after an end, or a receipt's own."""
        if isinstance(item, Receipt):
            for fn in item.take_callbacks():
                self._call("a receipt's callback", fn, item)
            return
        outcome = item.outcome()
        if item.status == "ok":
            self._ask("on_success", item, outcome)
        self._ask("on_outcome", item, outcome)

    def _unknown(self, delivery: Delivery, error: UnknownOutcomeError) -> None:
        if self._target.config.on_unknown == "report" or self._target.closed:
            self._endings.finish(delivery, "unknown", error)
        else:
            self._lost(delivery, error)

    def _lost(self, delivery: Delivery, error: DeliveryError) -> None:
        """A loss spends no attempt, unless the delivery was alone: then it may itself be the cause."""
        self._target.ledger.note(f"lost:{type(error).__name__}", error)
        if delivery.losses >= ALONE_AFTER_LOSSES:
            self._fail(delivery, error, retryable=True)
            return
        again = delivery.renewed()
        again.error = error
        again.losses += 1
        again.attempts -= 1
        self._target.put_back((again,))

    def _fail(self, delivery: Delivery, error: BaseException, *, retryable: bool) -> None:
        target = self._target
        target.ledger.note(f"attempt:{type(error).__name__}", error)
        if delivery.left < 0:
            delivery.left = delivery.policy.retries
        delivery.failures += 1
        delivery.status, delivery.error = "failed", error
        self._report_failure(delivery, error)

        def decide(judge: Judge, verdict: Any) -> None:
            judge._decide(delivery, error, retryable, verdict)

        self._consult("on_failure", delivery, decide)

    def _decide(self, delivery: Delivery, error: BaseException, retryable: bool, verdict: Any) -> None:
        policy, now = delivery.policy, time.monotonic()
        expires_at = delivery.expires_at
        decision = after_failure(
            error,
            retryable=retryable,
            verdict=self._sane(verdict),
            policy=policy,
            attempts=delivery.attempts,
            failures=delivery.failures,
            left=delivery.left,
            time_left_s=None if expires_at is None else expires_at - now,
            uniform=self._uniform(),
        )
        if isinstance(decision, Again):
            self._again(delivery, decision.delay_s, decision.left, now)
        elif decision.status == "fatal":
            self._fatal(delivery, decision, now)
        else:
            self._endings.finish(delivery, decision.status, decision.error)

    def _again(self, delivery: Delivery, delay_s: float, left: int, now: float) -> None:
        again = delivery.renewed()
        again.left = left
        if delay_s > 0:
            self._target.park(again, now + delay_s)
        else:
            self._target.put_back((again,))

    def _fatal(self, delivery: Delivery, decision: End, now: float) -> None:
        delivery.status = "fatal"

        def decide(judge: Judge, wish: Any) -> None:
            judge._decide_fatal(delivery, decision, wish, now)

        self._consult("on_fatal", delivery, decide)

    def _decide_fatal(self, delivery: Delivery, decision: End, wish: Any, now: float) -> None:
        wish = self._sane(wish)
        if isinstance(wish, Retry) and delivery.rounds < self._target.config.max_rounds:
            delivery.rounds += 1
            delivery.failures = 0
            delay_s = wish.delay_s
            if delay_s is None:
                delay_s = backoff_delay(delivery.policy.backoff, 1, self._uniform())
            left = delivery.policy.retries if wish.retries is None else wish.retries
            expires_at = delivery.expires_at
            if expires_at is not None and now + delay_s >= expires_at:
                self._endings.expire(delivery)
            else:
                self._again(delivery, delay_s, left, now)
        else:
            self._endings.finish(delivery, decision.status, decision.error)

    def _report_failure(self, delivery: Delivery, error: BaseException) -> None:
        if self._target.events.listeners:
            self._target.events.attempted(delivery, error)
        log.warning(
            "%s: attempt %d failed: %s",
            self._target.config.name,
            delivery.attempts,
            self._target.redact(describe(error)),
            extra=log_extra(delivery, "failed"),
        )

    def _sane(self, verdict: Any) -> Retry | Stop | None:
        """Return a callback's verdict; nonsense is None, and said so in the log."""
        if isinstance(verdict, Stop):
            return verdict
        if isinstance(verdict, Retry):
            numbers = (verdict.delay_s, verdict.retries)
            if all(number is None or (isinstance(number, int | float) and number >= 0) for number in numbers):
                return verdict
            log.error("%s: a callback answered %r; taken as None", self._target.config.name, verdict)
        return None

    def _consult(self, name: str, delivery: Delivery, decide: Callable[[Judge, Any], None]) -> None:
        """Ask a callback and go on with its answer, unless it took so long that another judge went on."""
        self._limbo[delivery] = decide
        verdict = self._ask(name, delivery, delivery.outcome())
        if self._limbo.pop(delivery, None) is not None:
            decide(self, verdict)

    def _ask(self, name: str, delivery: Delivery, outcome: Outcome) -> Any:
        hook = hook_of(name, delivery.policy, self._handler) if self._asking else None
        return None if hook is None else self._call(name, hook, outcome)

    def _call(self, name: str, fn: Callable[..., Any], argument: Any) -> Any:
        try:
            return self._resolved(fn(argument))
        except BaseException as error:  # user code: even SystemExit must not end the worker
            self._target.ledger.note(f"callback:{type(error).__name__}")
            log.exception("%s: %s raised; taken as None", self._target.config.name, name)
            return None


def _error_of(failed: Failed) -> BaseException:
    reason = failed.reason
    return reason if isinstance(reason, BaseException) else DeliveryError(reason)
