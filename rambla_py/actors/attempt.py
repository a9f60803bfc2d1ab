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
        self._deliver: Callable[[Session, Sequence[Delivery], float], None] = ways[level][is_async]

    def attempt(self, session: Session, batch: list[Delivery], now: float) -> None:
        """Attempt a batch; callable payloads each by themselves."""
        if self._target.calls_seen:
            for delivery in [delivery for delivery in batch if delivery.calls]:
                if session.lost:
                    break
                batch.remove(delivery)
                self._one(session, delivery, self._call_payload, now)
        if session.lost:
            self._target.put_back(batch)
        elif batch:
            self._deliver(session, batch, now)

    def _each(self, session: Session, batch: Sequence[Delivery], now: float) -> None:
        for delivery in batch:
            self._one(session, delivery, self._handle, now)

    def _one(self, session: Session, delivery: Delivery, fn: Callable[..., Any], now: float) -> None:
        session.begin_together((delivery,), now)
        raised, answer = self._run_user(fn, delivery, delivery.options, session.state)
        self._end(session, (delivery,), raised, (answer,))

    def _batch(self, session: Session, batch: Sequence[Delivery], now: float) -> None:
        session.begin_together(batch, now)
        raised, answers = self._run_user(self._handle, batch, session.state)
        if raised is None and (type(answers) is not list or len(answers) != len(batch)):
            raised = None if _fits(answers, batch) else self._misfit(answers, batch)
        self._end(session, batch, raised, answers)

    def _deliveries(self, session: Session, batch: Sequence[Delivery], now: float) -> None:
        session.begin_each(batch, now)
        raised, _ = self._run_user(self._handle, batch, session.state)
        if raised is not None:
            self._judge_later(session, [(one, raised) for one in batch if session.claim(one)])
            self._renew_after(session, raised)

    def _each_async(self, session: Session, batch: Sequence[Delivery], now: float) -> None:
        session.begin_each(batch, now)
        self._loop.deliver_each(session, batch, self._handle)

    def _batch_async(self, session: Session, batch: Sequence[Delivery], now: float) -> None:
        def settle(raised: BaseException | None, answers: Any) -> None:
            if raised is None and not _fits(answers, batch):
                raised = self._misfit(answers, batch)
            for at, delivery in enumerate(batch):
                session.settle(delivery, answers[at] if raised is None else raised)

        session.begin_each(batch, now)
        self._loop.deliver_together(session, batch, self._handle, settle)

    def _deliveries_async(self, session: Session, batch: Sequence[Delivery], now: float) -> None:
        def settle(raised: BaseException | None, _: Any) -> None:
            for delivery in batch if raised is not None else ():
                session.settle(delivery, raised)

        session.begin_each(batch, now)
        self._loop.deliver_together(session, batch, self._handle, settle)

    def _end(
        self,
        session: Session,
        batch: Sequence[Delivery],
        raised: BaseException | None,
        answers: Sequence[Any],
    ) -> None:
        """Take the answers to a batch, unless it was given up meanwhile."""
        if session.end_together():
            if raised is not None:
                self._judge_later(session, [(delivery, raised) for delivery in batch])
            else:
                self._take(session, batch, answers)
        if raised is not None:
            self._renew_after(session, raised)

    def _take(self, session: Session, batch: Sequence[Delivery], answers: Sequence[Any]) -> None:
        """End the successes at once, and leave the others to the judge; most batches have none."""
        judged: list[tuple[Delivery, Any]] = []
        for delivery, answer in zip(batch, answers, strict=True):
            if answer is not None:
                # By its type alone: what a stranger's object says of its class may raise.
                if issubclass(type(answer), _JUDGED):
                    judged.append((delivery, answer))
                else:
                    delivery.result = answer
        if judged:
            bad = {id(delivery) for delivery, _ in judged}
            batch = [delivery for delivery in batch if id(delivery) not in bad]
        if batch:
            self._target.endings.succeed(batch, time.monotonic())
        if judged:
            self._judge_later(session, judged)

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

    def _judge_later(self, session: Session, judged: Sequence[tuple[Delivery, Any]]) -> None:
        """Leave answers to whoever judges next: should a callback hang, the rest does not hang with it."""
        # Each loss goes back to the head of the mailbox, so the last one goes first.
        losses = [pair for pair in judged if isinstance(pair[1], _LOSSES)]
        others = [pair for pair in judged if not isinstance(pair[1], _LOSSES)]
        if losses:
            session.lose(losses[0][1])
        self._target.answers.handed_in.extend((session, *pair) for pair in [*others, *reversed(losses)])

    def _misfit(self, answers: Any, batch: Sequence[Delivery]) -> HandlerError:
        got = f"{len(answers)} results" if isinstance(answers, Sequence) else repr(type(answers).__name__)
        expected = f"one result for each of {len(batch)} messages"
        return HandlerError(type(self._handler).__name__, f"handle_batch must return {expected}, got {got}")

    def _renew_after(self, session: Session, raised: BaseException | None) -> None:
        """Take a fresh connection after an error that says nothing of the connection's state."""
        if raised is None or isinstance(raised, RamblaError) or not self._has_connection:
            return
        session.lose(RenewalError(f"renewed after {type(raised).__name__}"))


def _fits(answers: Any, batch: Sequence[Delivery]) -> bool:
    listed = isinstance(answers, Sequence) and not isinstance(answers, str | bytes)
    return listed and len(answers) == len(batch)
