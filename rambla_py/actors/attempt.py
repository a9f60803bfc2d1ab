"""This module hands batches to a handler, at the level of the contract that it implements."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.errors import ConnectionLostError, HandlerError, RamblaError, UnknownOutcomeError
from rambla_py.handler import Handler, State, level_of
from rambla_py.message import Failed, Ok

if TYPE_CHECKING:
    from rambla_py.actors.judge import Judge
    from rambla_py.actors.loop import Loop
    from rambla_py.actors.session import Session
    from rambla_py.actors.target import Target
    from rambla_py.delivery import Delivery

__all__ = ["Attempts", "RenewalError"]

_LOSSES = (ConnectionLostError, UnknownOutcomeError)
_JUDGED = (Ok, Failed, BaseException)

_METHODS = {"publish": "handle_publish", "batch": "handle_batch", "deliveries": "handle_deliveries"}


class RenewalError(ConnectionLostError):
    """The connection is given up on suspicion, not lost: reconnect without a wait."""


class Attempts:
    """Runs one worker's handler; ``timed`` puts the clock on user code, ``resolved`` waits for awaitables.

    ``one_by_one`` says that one call takes one message; the rest of a batch is then better left in the
    mailbox, where another worker can take it and time can expire it.
    """

    def __init__(
        self,
        target: Target,
        handler: Handler,
        judge: Judge,
        loop: Loop,
        timed: Callable[..., Any],
        resolved: Callable[[Any], Any],
    ) -> None:
        self._target, self._handler, self._judge, self._loop = target, handler, judge, loop
        self._timed, self._resolved = timed, resolved
        self._has_connection = type(handler).connect is not Handler.connect
        level = level_of(type(handler)) or "publish"
        self._handle: Callable[..., Any] = getattr(handler, _METHODS[level])
        is_async = inspect.iscoroutinefunction(self._handle)
        self.one_by_one = level == "publish" and not is_async
        ways = {
            "publish": (self._each, self._each_async),
            "batch": (self._batch, self._batch_async),
            "deliveries": (self._deliveries, self._deliveries_async),
        }
        self._deliver: Callable[[Session, Sequence[Delivery]], None] = ways[level][is_async]

    def attempt(self, session: Session, batch: list[Delivery]) -> None:
        """Attempt a batch that is in flight already; callable payloads each by themselves."""
        if self._target.calls_seen:
            for delivery in [delivery for delivery in batch if delivery.calls]:
                batch.remove(delivery)
                self._one(session, delivery, self._call_payload)
        if batch:
            self._deliver(session, batch)

    def _each(self, session: Session, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            self._one(session, delivery, self._handle)

    def _batch(self, session: Session, batch: Sequence[Delivery]) -> None:
        raised, answers = self._run_user(self._handle, batch, session.state)
        self._take_answers(session, batch, raised, answers)

    def _take_answers(
        self, session: Session, batch: Sequence[Delivery], raised: BaseException | None, answers: Any
    ) -> None:
        raised, answers = self._one_each(batch, raised, answers)
        now = time.monotonic()
        succeeded: list[Delivery] = []
        judged: list[tuple[Delivery, Any]] = []
        claim = session.in_flight.pop
        for delivery, answer in zip(batch, answers, strict=True):
            if claim(delivery, None) is None:
                continue
            if answer is not None and isinstance(answer, _JUDGED):
                judged.append((delivery, answer))
            else:
                delivery.result = answer
                delivery.ended_at = now
                succeeded.append(delivery)
        if succeeded:
            self._succeed(succeeded)
        self._judge_rest(session, judged)
        self._renew_after(session, raised)

    def _one_each(
        self, batch: Sequence[Delivery], raised: BaseException | None, answers: Any
    ) -> tuple[BaseException | None, Any]:
        """Return one answer for each delivery, whatever a batch raised or returned."""
        if raised is None and not _fits(answers, batch):
            raised = HandlerError(type(self._handler).__name__, _misfit(answers, batch))
        if raised is not None:
            answers = [raised] * len(batch)
        return raised, answers

    def _deliveries(self, session: Session, batch: Sequence[Delivery]) -> None:
        raised, _ = self._run_user(self._handle, batch, session.state)
        self._take_unsettled(session, batch, raised)

    def _take_unsettled(
        self, session: Session, batch: Sequence[Delivery], raised: BaseException | None
    ) -> None:
        if raised is not None:
            left = [(delivery, raised) for delivery in batch if session.claim(delivery)]
            self._judge_rest(session, left)
            self._renew_after(session, raised)

    def _each_async(self, session: Session, batch: Sequence[Delivery]) -> None:
        self._loop.deliver_each(session, batch, self._handle)

    def _batch_async(self, session: Session, batch: Sequence[Delivery]) -> None:
        def settle(raised: BaseException | None, answers: Any) -> None:
            _, answers = self._one_each(batch, raised, answers)
            for delivery, answer in zip(batch, answers, strict=True):
                session.settle(delivery, answer)

        self._loop.deliver_together(session, batch, self._handle, settle)

    def _deliveries_async(self, session: Session, batch: Sequence[Delivery]) -> None:
        def settle(raised: BaseException | None, _: Any) -> None:
            for delivery in batch if raised is not None else ():
                session.settle(delivery, raised)

        self._loop.deliver_together(session, batch, self._handle, settle)

    def _one(self, session: Session, delivery: Delivery, fn: Callable[..., Any]) -> None:
        raised, answer = self._run_user(fn, delivery, delivery.options, session.state)
        if session.claim(delivery):
            self._judge_rest(session, [(delivery, answer if raised is None else raised)])
        self._renew_after(session, raised)

    def _call_payload(self, delivery: Delivery, options: Any, state: State) -> Any:
        return delivery.payload(
            source=type(self._handler),
            destination=self._handler.destination(state.connection),
            options=options,
        )

    def _run_user(self, fn: Callable[..., Any], *args: Any) -> tuple[BaseException | None, Any]:
        try:
            return None, self._resolved(self._timed(fn, *args))
        except BaseException as error:  # user code: whatever it raises is a failed attempt
            return error, None

    def _succeed(self, deliveries: Sequence[Delivery]) -> None:
        events = self._target.events
        if events.listeners:
            for delivery in deliveries:
                events.attempted(delivery, None)
        self._target.succeed(deliveries)

    def _judge_rest(self, session: Session, judged: Sequence[tuple[Delivery, Any]]) -> None:
        # Each loss goes back to the head of the mailbox, so the last one goes first.
        losses = [pair for pair in judged if isinstance(pair[1], _LOSSES)]
        for delivery, answer in [pair for pair in judged if not isinstance(pair[1], _LOSSES)]:
            self._judge.judge(delivery, answer)
        for delivery, answer in reversed(losses):
            self._judge.judge(delivery, answer)
        if losses:
            session.lose(losses[0][1])

    def _renew_after(self, session: Session, raised: BaseException | None) -> None:
        """Take a fresh connection after an error that says nothing of the connection's state."""
        if raised is None or isinstance(raised, RamblaError) or not self._has_connection:
            return
        session.lose(RenewalError(f"renewed after {type(raised).__name__}"))


def _fits(answers: Any, batch: Sequence[Delivery]) -> bool:
    listed = isinstance(answers, Sequence) and not isinstance(answers, str | bytes)
    return listed and len(answers) == len(batch)


def _misfit(answers: Any, batch: Sequence[Delivery]) -> str:
    got = f"{len(answers)} results" if isinstance(answers, Sequence) else repr(type(answers).__name__)
    return f"handle_batch must return one result for each of {len(batch)} messages, got {got}"
