"""Calls of a handler, at the level of the contract that it implements."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py._internal.message_ids import draw_ids
from rambla_py.errors import ConnectionLostError, HandlerError, RamblaError
from rambla_py.handler import Handler, State
from rambla_py.handler_levels import level_of
from rambla_py.message import Failed, Ok, Retry, Stop
from rambla_py.runtime.delivery.answers import loses_connection
from rambla_py.runtime.delivery.event_loop import PLAIN_ANSWERS
from rambla_py.runtime.delivery.key_runs import hold_back, wait_until

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.delivery.event_loop import EventLoop
    from rambla_py.runtime.delivery.retrying import ResultProcessor
    from rambla_py.runtime.target.durability import Durability
    from rambla_py.runtime.target.in_flight import InFlight
    from rambla_py.runtime.target.target import Target

__all__ = ["Dispatcher", "RenewalError"]

_OUTBOX_RETRY_S = 1.0
"""Seconds until an attempt is tried again whose beginning could not be stored."""

_NOT_SUCCESS = (Ok, Failed, BaseException, Retry, Stop, type)

_METHODS = {"publish": "handle_publish", "batch": "handle_batch", "deliveries": "handle_deliveries"}


class RenewalError(ConnectionLostError):
    """The connection is closed on suspicion, not lost: reconnect without back-off."""


class Dispatcher:
    """Calls one worker's handler; ``timed`` bounds the time of user code, ``resolved`` waits for awaitables.

    ``one_by_one``: a call takes one message, so that the rest of a batch is better left in the mailbox, where
    another worker can take it and it can expire. ``whole_batches``: a batch is answered as a whole, so that
    ``max_in_flight`` does not split it.
    """

    def __init__(
        self,
        target: Target,
        handler: Handler,
        processor: ResultProcessor,
        loop: EventLoop,
        timed: Callable[..., Any],
        resolved: Callable[[Any], Any],
    ) -> None:
        self._target, self._handler, self._processor, self._loop = target, handler, processor, loop
        self._timed, self._resolved = timed, resolved
        self._has_connection = type(handler).connect is not Handler.connect
        level = level_of(type(handler)) or "publish"
        self._handle: Callable[..., Any] = getattr(handler, _METHODS[level])
        is_async = inspect.iscoroutinefunction(self._handle)
        self.one_by_one = level == "publish" and not is_async
        self.whole_batches = level == "batch"
        ways = {
            "publish": (self._each, self._each_async),
            "batch": (self._batch, self._batch_async),
            "deliveries": (self._deliveries, self._deliveries_async),
        }
        self._deliver: Callable[[InFlight, Sequence[LiveDelivery], float], None] = ways[level][is_async]

    def attempt(self, session: InFlight, batch: list[LiveDelivery], now: float) -> None:
        """Attempt a batch; callable payloads are called one by one."""
        if self._target.has_callables:
            for delivery in [delivery for delivery in batch if delivery.calls]:
                if session.lost:
                    break
                batch.remove(delivery)
                self._one(session, delivery, self._call_payload, now)
        if session.error is not None:
            self._target.put_back(batch)
        elif batch:
            if self._target.needs_ids:
                draw_ids(batch)
            durability = self._target.completion.durability
            if durability is not None:
                batch = self._begun(durability, batch)
                if not batch:
                    return
            self._target.counters.add_batch()
            self._deliver(session, batch, now)

    def _begun(self, durability: Durability, batch: list[LiveDelivery]) -> list[LiveDelivery]:
        """Record the beginning of attempts where that decides what follows a crash; return those to make."""
        marked = [
            one for one in batch if one.stored is not None and (durability.begins or one.stored.crashes)
        ]
        if not marked:
            return batch
        try:
            durability.begin(marked)
        except RamblaError as error:
            self._target.counters.note(f"outbox:{type(error).__name__}", error)
            return wait_until(time.monotonic() + _OUTBOX_RETRY_S, self._target, batch, marked)
        return batch

    def _each(self, session: InFlight, batch: Sequence[LiveDelivery], now: float) -> None:
        handle = self._handle if self._target.observers.tracing is None else self._handle_traced
        for delivery in batch:
            self._one(session, delivery, handle, now)

    def _one(self, session: InFlight, delivery: LiveDelivery, fn: Callable[..., Any], now: float) -> None:
        session.begin_together((delivery,), now)
        raised, answer = self._run_user(fn, delivery, delivery.options, session.state)
        self._end(session, (delivery,), raised, (answer,))

    def _batch(self, session: InFlight, batch: Sequence[LiveDelivery], now: float) -> None:
        session.begin_together(batch, now)
        raised, answers = self._run_user(self._handle, batch, session.state)
        if raised is None and (type(answers) is not list or len(answers) != len(batch)):
            raised = None if _fits(answers, batch) else self._wrong_length(answers, batch)
        self._end(session, batch, raised, answers)

    def _deliveries(self, session: InFlight, batch: Sequence[LiveDelivery], now: float) -> None:
        session.begin_each(batch, now)
        raised, _ = self._run_user(self._handle, batch, session.state)
        if raised is not None:
            self._queue_results(session, [(one, raised) for one in batch if session.claim(one)])
            self._reconnect_after(session, raised)

    def _each_async(self, session: InFlight, batch: Sequence[LiveDelivery], now: float) -> None:
        session.begin_each(batch, now)
        traced = self._target.observers.tracing is not None
        self._loop.deliver_each(session, batch, self._handle_traced_async if traced else self._handle)

    def _batch_async(self, session: InFlight, batch: Sequence[LiveDelivery], now: float) -> None:
        def settle(raised: BaseException | None, answers: Any) -> None:
            if raised is None and not _fits(answers, batch):
                raised = self._wrong_length(answers, batch)
            for at, delivery in enumerate(batch):
                session.settle(delivery, answers[at] if raised is None else raised)

        session.answer_together()
        session.begin_each(batch, now)
        self._loop.deliver_together(session, batch, self._handle, settle)

    def _deliveries_async(self, session: InFlight, batch: Sequence[LiveDelivery], now: float) -> None:
        def settle(raised: BaseException | None, _: Any) -> None:
            for delivery in batch if raised is not None else ():
                session.settle(delivery, raised)

        session.begin_each(batch, now)
        self._loop.deliver_together(session, batch, self._handle, settle)

    def _end(
        self,
        session: InFlight,
        batch: Sequence[LiveDelivery],
        raised: BaseException | None,
        answers: Sequence[Any],
    ) -> None:
        """Process the answers to a batch, unless it was abandoned meanwhile."""
        if session.end_together():
            if raised is not None:
                answered = self._held_back(batch, [(delivery, raised) for delivery in batch])
                self._queue_results(session, answered)
            else:
                self._take(session, batch, answers)
        if raised is not None:
            self._reconnect_after(session, raised)

    def _take(self, session: InFlight, batch: Sequence[LiveDelivery], answers: Sequence[Any]) -> None:
        """End the successes at once and queue the other answers; most batches have none."""
        others: list[tuple[LiveDelivery, Any]] = []
        for delivery, answer in zip(batch, answers, strict=True):
            if answer is not None:
                # Looks only at its type: `__class__` of a third-party object may raise.
                kind = type(answer)
                if kind is Ok:
                    delivery.result = answer.result
                elif issubclass(kind, _NOT_SUCCESS):
                    others.append((delivery, answer))
                else:
                    delivery.result = answer
        if others:
            bad = {id(delivery) for delivery, _ in others}
            others = self._held_back(batch, others)
            batch = [delivery for delivery in batch if id(delivery) not in bad]
        if batch:
            self._target.completion.succeed(batch, time.monotonic(), batch[0].started_at)
        if others:
            self._queue_results(session, others)

    def _held_back(
        self, batch: Sequence[LiveDelivery], answers: list[tuple[LiveDelivery, Any]]
    ) -> list[tuple[LiveDelivery, Any]]:
        return hold_back(self._target, batch, answers) if self._target.takes_runs else answers

    def _handle_traced(self, delivery: LiveDelivery, options: Any, state: State) -> Any:
        tracing = self._target.observers.tracing
        if tracing is None:
            return self._handle(delivery, options, state)
        with tracing.attempt(self._target.config, delivery):
            return self._handle(delivery, options, state)

    async def _handle_traced_async(self, delivery: LiveDelivery, options: Any, state: State) -> Any:
        tracing = self._target.observers.tracing
        if tracing is None:
            return await self._handle(delivery, options, state)
        with tracing.attempt(self._target.config, delivery):
            return await self._handle(delivery, options, state)

    def _call_payload(self, delivery: LiveDelivery, options: Any, state: State) -> Any:
        return delivery.payload(
            source=type(self._handler),
            destination=self._handler.destination(state.connection),
            options=options,
        )

    def _run_user(self, fn: Callable[..., Any], *args: Any) -> tuple[BaseException | None, Any]:
        try:
            answer = self._timed(fn, *args)
            return None, answer if type(answer) in PLAIN_ANSWERS else self._resolved(answer)
        except BaseException as error:  # user code: whatever it raises is a failed attempt
            return error, None

    def _queue_results(self, session: InFlight, others: Sequence[tuple[LiveDelivery, Any]]) -> None:
        """Queue answers for any worker, so that a hanging callback does not hold up the others."""
        # Each lost delivery returns to the head of the mailbox, so the last one is queued first.
        losses = [pair for pair in others if loses_connection(pair[1])]
        others = [pair for pair in others if not loses_connection(pair[1])]
        if losses:
            session.lose(losses[0][1])
        self._target.settlements.results.extend((session, *pair) for pair in [*others, *reversed(losses)])

    def _wrong_length(self, answers: Any, batch: Sequence[LiveDelivery]) -> HandlerError:
        got = f"{len(answers)} results" if isinstance(answers, Sequence) else repr(type(answers).__name__)
        expected = f"one result for each of {len(batch)} messages"
        return HandlerError(type(self._handler).__name__, f"handle_batch must return {expected}, got {got}")

    def _reconnect_after(self, session: InFlight, raised: BaseException | None) -> None:
        """Reconnect after an error that leaves the connection in an unknown state."""
        if raised is None or isinstance(raised, RamblaError) or not self._has_connection:
            return
        session.lose(RenewalError(f"renewed after {type(raised).__name__}"))


def _fits(answers: Any, batch: Sequence[LiveDelivery]) -> bool:
    listed = isinstance(answers, Sequence) and not isinstance(answers, str | bytes)
    return listed and len(answers) == len(batch)
