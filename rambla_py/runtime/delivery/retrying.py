"""Processing of answers: success, retry, or failure."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py._internal.tracebacks import drop_tracebacks
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    HandlerError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.message import Failed, Ok, Retry, Stop
from rambla_py.policy import Again, End, after_failure, backoff_delay, is_retryable, misused_answer
from rambla_py.receipt import Receipt
from rambla_py.runtime.delivery.answers import AnswerKind, classify, error_of, unwrapped
from rambla_py.runtime.target.callbacks import callback_of
from rambla_py.runtime.target.in_flight import BatchTimeoutError
from rambla_py.runtime.target.isolation import is_suspect, was_alone
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.handler import Handler
    from rambla_py.outcome import Outcome
    from rambla_py.runtime.target.target import Target

__all__ = ["ResultProcessor", "PendingCallback"]

log = logging.getLogger("rambla_py.delivery")


_MOST_APART = 2
"""How often a delivery is set apart without a failed attempt: a handler may send smaller requests first."""


_ALONE_NEXT = 2
"""The size of a group of suspects whose half is one of them: see ``group_limit``."""


class PendingCallback(NamedTuple):
    """The answer for a delivery whose callback hangs: proceed as if it had returned None."""

    proceed: Callable[[ResultProcessor, Any], None]


class ResultProcessor:
    """Processes answers on a worker's thread and runs callbacks; ``policy`` decides."""

    def __init__(
        self,
        target: Target,
        handler: Handler,
        resolved: Callable[[Any], Any],
        uniform: Callable[[], float] = random.random,
        *,
        run_user_callbacks: bool = True,
    ) -> None:
        self._target, self._handler, self._resolved, self._uniform = target, handler, resolved, uniform
        self._completion = target.completion
        self._runs_callbacks = run_user_callbacks
        self._pending: dict[LiveDelivery, Callable[[ResultProcessor, Any], None]] = {}

    @property
    def pending_callbacks(self) -> int:
        """How many deliveries wait for the answer of a callback."""
        return len(self._pending)

    def take_pending(self) -> list[tuple[LiveDelivery, PendingCallback]]:
        """Take the deliveries whose callback has not returned, for another processor to decide."""
        taken = []
        for delivery in list(self._pending):
            proceed = self._pending.pop(delivery, None)
            if proceed is not None:
                taken.append((delivery, PendingCallback(proceed)))
        return taken

    def process(self, delivery: LiveDelivery, answer: Any) -> None:
        """Process the answer to one attempt; the caller holds the claim on the delivery."""
        self._process(delivery, answer)
        self._forget_frames(
            error_of(answer) if isinstance(answer, Failed | BaseException) else delivery.error
        )

    def _process(self, delivery: LiveDelivery, answer: Any) -> None:
        now = time.monotonic()
        delivery.answered(now)
        if isinstance(answer, PendingCallback):
            answer.proceed(self, None)
            return
        answer = unwrapped(answer)
        kind = classify(answer)
        if kind not in ("success", "unsent"):
            self._completion.fail_attempt(delivery, error_of(answer), now)
        if kind == "success":
            self._answered(delivery, answer)
        elif kind == "unavailable":
            self._unavailable(delivery, answer)
        else:
            if delivery.history is not None and delivery.history.probing is not None:
                self._target.probing.inconclusive(delivery)
            self._not_delivered(delivery, kind, answer)

    def _not_delivered(self, delivery: LiveDelivery, kind: AnswerKind, answer: Any) -> None:
        if kind == "failed":
            delivery.clear_suspicion()
        match kind:
            case "unsent":
                self._target.put_back((delivery.unsent(answer),))
            case "lost":
                self._lost(delivery, answer)
            case "unknown":
                self._unknown(delivery, answer)
            case "overdue batch":
                self._overdue_batch(delivery, answer)
            case _ if isinstance(answer, Failed):
                error = error_of(answer)
                given = answer.retryable
                self._fail(delivery, error, retryable=is_retryable(error) if given is None else given)
            case _:
                self._fail(delivery, answer, retryable=is_retryable(answer))

    def _answered(self, delivery: LiveDelivery, answer: Any) -> None:
        """End a delivery as delivered, unless the handler returned something that is not a result."""
        misuse = misused_answer(answer)
        if misuse is None:
            delivery.succeeded(answer.result if isinstance(answer, Ok) else answer)
            self._completion.succeed((delivery,), delivery.ended_at)
        else:
            error = HandlerError(type(self._handler).__name__, misuse)
            self._completion.fail_attempt(delivery, error, delivery.ended_at)
            self._fail(delivery, error, retryable=True)

    def run_callbacks(self, item: LiveDelivery | Receipt) -> None:
        """Run the callbacks of an ended delivery, or of a receipt."""
        if isinstance(item, Receipt):
            for fn in item._take_callbacks():
                self._call("a receipt's callback", fn, item)
            return
        outcome = item.outcome()
        if item.status == "ok":
            self._ask("on_success", item, outcome)
        self._ask("on_outcome", item, outcome)

    def _unavailable(self, delivery: LiveDelivery, error: UnavailableError | AccessError) -> None:
        """Wait for the backend without using up a retry; ``on_failure`` may decide otherwise."""
        target = self._target
        target.counters.note(f"unavailable:{type(error).__name__}", error)
        delivery.refused(error)
        delivery.clear_suspicion()

        def decide(processor: ResultProcessor, verdict: Any) -> None:
            processor._wait_for_backend(delivery, error, verdict)

        self._ask_callback("on_failure", delivery, decide)

    def _wait_for_backend(
        self, delivery: LiveDelivery, error: UnavailableError | AccessError, verdict: Any
    ) -> None:
        target, verdict, now = self._target, self._checked_verdict(verdict), time.monotonic()
        if isinstance(verdict, Stop):
            self._completion.finish(delivery, "failed", error)
            return
        left = delivery.left if verdict is None or verdict.retries is None else verdict.retries
        again = delivery.after_failure(left)
        if target.state.closed:
            self._completion.drop(again, "stopped")
        elif verdict is not None and verdict.delay_s is not None:
            target.probing.inconclusive(again)
            target.park(again, now + verdict.delay_s)
        elif not target.probing.refused(again, error, now, worker=delivery.worker):
            delivery.fail(error)
            self._decide(delivery, error, True, verdict)

    def _unknown(self, delivery: LiveDelivery, error: DeliveryError) -> None:
        """Process an attempt without an answer on a sound connection: a failed attempt.

        If it was one of several in a request, any of them may be the cause: each is retried alone first.
        """
        if self._report_unknown(delivery, error):
            return
        if not _was_shared(error) or (delivery.history is not None and delivery.history.apart >= _MOST_APART):
            self._fail(delivery, error, retryable=True)
            return
        self._target.counters.note(f"lost:{type(error).__name__}", error)
        again = delivery.renewed()
        again.refused(error)
        again.past().set_apart()
        if again.stored is not None:
            self._target.completion.attempted(again, None)
        self._target.put_back((again,))

    def _lost(self, delivery: LiveDelivery, error: DeliveryError) -> None:
        """Process a loss, which uses up no retry unless a suspect was alone on the connection."""
        written = classify(error) == "lost" and not isinstance(error, ConnectionLostError)
        self._target.counters.note(f"lost:{type(error).__name__}", error)
        if written and self._report_unknown(delivery, error):
            return
        if is_suspect(delivery) and was_alone(delivery):
            self._fail(delivery, error, retryable=True)
            return
        again = delivery.after_loss(error, written=written)
        if is_suspect(again) and _was_shared(error):
            again.past().set_apart()
        if again.stored is not None and written:
            self._target.completion.attempted(again, None)
        self._target.put_back((again,))

    def _overdue_batch(self, delivery: LiveDelivery, error: BatchTimeoutError) -> None:
        """Process a batch that took too long: one message may be the cause, so each is retried alone.

        Halves would wait for a time-out at each halving, and the others would come once more each time.
        """
        if not self._report_unknown(delivery, error):
            delivery.isolate(_ALONE_NEXT)
            self._target.counters.note(f"lost:{type(error).__name__}", error)
            self._target.put_back((delivery.after_loss(error, written=True),))

    def _report_unknown(self, delivery: LiveDelivery, error: BaseException) -> bool:
        """Record an attempt without an answer; end the delivery as unknown if it may not be retried."""
        delivery.unanswered()
        if self._target.config.on_unknown == "report":
            self._completion.finish(delivery, "unknown", error)
            return True
        if self._target.state.closed:
            self._completion.interrupt(delivery, error)
            return True
        return False

    def _fail(self, delivery: LiveDelivery, error: BaseException, *, retryable: bool) -> None:
        target = self._target
        target.counters.note(f"attempt:{type(error).__name__}", error)
        delivery.fail(error)

        def decide(processor: ResultProcessor, verdict: Any) -> None:
            processor._decide(delivery, error, retryable, verdict)

        self._ask_callback("on_failure", delivery, decide)

    def _decide(self, delivery: LiveDelivery, error: BaseException, retryable: bool, verdict: Any) -> None:
        policy, now = delivery.policy, time.monotonic()
        expires_at = delivery.expires_at
        decision = after_failure(
            error,
            retryable=retryable,
            verdict=self._checked_verdict(verdict),
            policy=policy,
            attempts=delivery.attempts,
            failures=delivery.failures,
            left=delivery.left,
            time_left_s=None if expires_at is None else expires_at - now,
            uniform=self._uniform(),
        )
        if isinstance(decision, Again):
            self._retry(delivery, decision.delay_s, decision.left, now)
        elif decision.status == "fatal":
            self._fatal(delivery, decision, now)
        elif decision.status == "expired":
            self._completion.expire(delivery)
        else:
            self._completion.finish(delivery, decision.status, decision.error)

    def _retry(self, delivery: LiveDelivery, delay_s: float, left: int, now: float) -> None:
        again = delivery.after_failure(left)
        if delivery.error is not None:
            self._target.log.retried(delivery, delivery.error, delay_s)
        if again.stored is not None:
            self._target.completion.attempted(again, now + delay_s)
        if delay_s > 0:
            self._target.park(again, now + delay_s)
        else:
            self._target.put_back((again,))

    def _fatal(self, delivery: LiveDelivery, decision: End, now: float) -> None:
        delivery.exhaust()

        def decide(processor: ResultProcessor, verdict: Any) -> None:
            processor._decide_fatal(delivery, decision, verdict, now)

        self._ask_callback("on_fatal", delivery, decide)

    def _decide_fatal(self, delivery: LiveDelivery, decision: End, verdict: Any, now: float) -> None:
        verdict = self._checked_verdict(verdict)
        if isinstance(verdict, Retry) and delivery.rounds < self._target.config.max_rounds:
            delivery.next_round()
            delay_s = verdict.delay_s
            if delay_s is None:
                delay_s = backoff_delay(delivery.policy.backoff, 1, self._uniform())
            left = delivery.policy.retries if verdict.retries is None else verdict.retries
            expires_at = delivery.expires_at
            if expires_at is not None and now + delay_s >= expires_at:
                self._completion.expire(delivery)
            else:
                self._retry(delivery, delay_s, left, now)
        else:
            self._completion.finish(delivery, decision.status, decision.error)

    def _checked_verdict(self, verdict: Any) -> Retry | Stop | None:
        """Return a callback's verdict; an invalid one is logged and treated as None."""
        if isinstance(verdict, Stop):
            return verdict
        if isinstance(verdict, Retry):
            numbers = (verdict.delay_s, verdict.retries)
            if all(number is None or (isinstance(number, int | float) and number >= 0) for number in numbers):
                return verdict
            log.error(
                "%s: a callback returned %r, which is not valid; treated as None",
                self._target.config.name,
                verdict,
                extra=target_extra(self._target.config),
            )
        return None

    def _ask_callback(
        self, name: str, delivery: LiveDelivery, decide: Callable[[ResultProcessor, Any], None]
    ) -> None:
        """Run a callback and continue with its verdict, unless it hung and another processor took over."""
        self._pending[delivery] = decide
        verdict = self._ask(name, delivery, delivery.outcome())
        if self._pending.pop(delivery, None) is not None:
            decide(self, verdict)

    def _ask(self, name: str, delivery: LiveDelivery, outcome: Outcome) -> Any:
        hook = callback_of(name, delivery.policy, self._handler) if self._runs_callbacks else None
        return None if hook is None else self._call(name, hook, outcome)

    def _call(self, name: str, fn: Callable[..., Any], argument: Any) -> Any:
        try:
            return self._resolved(fn(argument))
        except BaseException as error:  # user code: even SystemExit must not end the worker
            self._target.counters.note(f"callback:{type(error).__name__}")
            log.exception(
                "%s: %s raised; treated as None",
                self._target.config.name,
                name,
                extra=target_extra(self._target.config),
            )
            self._forget_frames(error)
            return None

    def _forget_frames(self, error: BaseException | None) -> None:
        if error is not None and not self._target.collaborators.debug:
            drop_tracebacks(error)


def _was_shared(error: BaseException) -> bool:
    """Return whether several messages shared the request that has no answer."""
    return isinstance(error, UnknownOutcomeError) and error.together
