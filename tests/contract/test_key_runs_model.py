"""Batches with several messages of a key, against a plain model and driven by hand: order holds whatever fails.

No thread runs: the test acts as publisher, two workers, timer, and caller of stop. The handler applies a batch
in order up to its first failure, as ``ordered`` promises; the test chooses where that is, and what it answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hand_crew import WORKERS, HandCrew
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rambla_py import (
    AccessError,
    ConnectionLostError,
    Failed,
    Handler,
    MailboxFullError,
    Ok,
    PermanentError,
    Rambla,
    Receipt,
    Retry,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.delivery import Delivery
from rambla_py.runtime.calls import accept, plan
from rambla_py.runtime.delivery.dispatch import Dispatcher
from rambla_py.runtime.delivery.event_loop import EventLoop
from rambla_py.runtime.delivery.key_runs import hold_back
from rambla_py.runtime.system import System
from rambla_py.runtime.target.shutdown import close, drop_later_than
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.timer import tick
from rambla_py.telemetry.observers import Observers

ISOLATED = WORKERS
LONG_S, SHORT_S = 1_000.0, 50.0
ERRORS: dict[str, Callable[[], BaseException]] = {
    "failed": lambda: ValueError("no"),
    "permanent": lambda: PermanentError("no"),
    "lost": lambda: ConnectionLostError("gone"),
    "unknown": lambda: UnknownOutcomeError("gone"),
    "sound": lambda: UnknownOutcomeError("late", connection_lost=False),
    "unavailable": lambda: UnavailableError("loading"),
    "elsewhere": lambda: UnavailableError("503", scope="https://a"),
    "access": lambda: AccessError("401"),
}
WRITTEN = {"unknown", "sound"}
errors = st.sampled_from(sorted(ERRORS))


class Ordered(Handler):
    """Calls what the test sets."""

    ordered = True
    answers: Callable[[Sequence[Delivery]], list[Any]]

    def handle_batch(self, messages: Sequence[Delivery], state: Any) -> list[Any]:
        return self.answers(messages)


class Entry:
    """State of one accepted message in the model.

    ``attempts`` is the number that the next attempt must have, None for any. ``single``: it was held back.
    """

    def __init__(self, receipt: Receipt, key: str | None) -> None:
        self.receipt, self.key = receipt, key
        self.attempts: int | None = 1
        self.single = self.maybe_sent = False


class RunsModel(RuleBasedStateMachine):
    """Publishes, delivers with failures, hangs, lets time pass, and stops, in any order."""

    @initialize(
        overflow=st.sampled_from(["raise", "drop_oldest", "drop_newest"]),
        on_unknown=st.sampled_from(["retry", "report"]),
        retries=st.integers(0, 3),
        fallback=st.booleans(),
        batch_bytes=st.sampled_from([None, 3]),
    )
    def begin(
        self, overflow: str, on_unknown: str, retries: int, fallback: bool, batch_bytes: int | None
    ) -> None:
        self.verdict: Any = None
        self.entries: list[Entry] = []
        self.hung: dict[int, list[Delivery]] = {}
        self.waiting_fallbacks: list[tuple[Delivery, Callable[[], None]]] = []
        self.stopped, self.on_unknown = False, on_unknown
        options = {
            "retries": retries,
            "expires_s": LONG_S,
            "backoff": {"initial_s": 0.0, "max_s": 0.0},
            "callbacks": {"on_failure": lambda outcome: self.verdict},
        }
        channel = {"count": WORKERS, "overflow": overflow, "on_unknown": on_unknown, "options": options}
        if batch_bytes is not None:
            channel["batch_bytes"] = batch_bytes
        service = {"handler": Ordered, "connections": {"here": {}}}
        app = Rambla({"probe": {**service, "channels": {"orders": {**channel, "max_pending": 20}}}})
        self.system = System(app.config, app.plan, Observers(), str)
        self.target: Target = self.system.targets.every()[0]
        self.target.wakeup.idle.clear()
        self.crew = self.target.wakeup.workers = HandCrew(self.target, lambda: None)
        self.handler = Ordered({})
        self.dispatcher = Dispatcher(
            self.target,
            self.handler,
            self.crew.judge,
            EventLoop("not used"),
            lambda step, *args: step(*args),
            lambda answer: answer,
        )
        if fallback:
            self.target.completion.end_sinks.add(self.wait_for_fallback)

    def wait_for_fallback(self, delivery: Delivery, proceed: Callable[[], None]) -> None:
        if delivery.status == "fatal":
            self.waiting_fallbacks.append((delivery, proceed))
        else:
            proceed()

    # -- publishing -----------------------------------------------------------------------------------

    @precondition(lambda self: not self.stopped)
    @rule(
        key=st.sampled_from([None, "a", "a", "a", "b", "c"]),
        expires_s=st.sampled_from([LONG_S, LONG_S, SHORT_S]),
        number=st.integers(1, 5),
    )
    def publish(self, key: str | None, expires_s: float, number: int) -> None:
        options = {} if key is None else {"key": key}
        for _ in range(number):
            call = plan(
                self.system.home,
                (self.target,),
                (len(self.entries),),
                {**options, "expires_s": expires_s},
                many=False,
            )
            with suppress(MailboxFullError):
                accept(call)
                self.entries.append(Entry(call.receipt, key))

    # -- working --------------------------------------------------------------------------------------

    @rule(
        worker=st.integers(0, WORKERS),
        limit=st.sampled_from([1, 4, 8]),
        fail_at=st.sampled_from([0, 1, 2, 5, 99]),
        first=errors,
        rest=st.sampled_from([*sorted(ERRORS), "same", "not applied"]),
        raises=st.booleans(),
        late_s=st.sampled_from([0.0, 0.0, 60.0]),
    )
    def deliver(
        self, worker: int, limit: int, fail_at: int, first: str, rest: str, raises: bool, late_s: float
    ) -> None:
        """Attempt a batch that fails at one of its messages; others may have expired before."""
        batch = self.take(worker, limit, late_s)
        if not batch:
            return
        rest = first if rest == "same" else rest
        if first not in WRITTEN and rest in WRITTEN:
            rest = "not applied"  # nothing behind a failure is written

        def answers(messages: Sequence[Delivery]) -> list[Any]:
            if raises and fail_at < len(batch):
                raise ERRORS[first]()
            behind = Failed("not applied") if rest == "not applied" else ERRORS[rest]()
            succeeded = [Ok(at) if at % 3 else None for at in range(min(fail_at, len(batch)))]
            failed = [ERRORS[first](), *[behind] * len(batch)] if fail_at < len(batch) else []
            return [*succeeded, *failed][: len(batch)]

        if fail_at < len(batch):
            self.expect(batch, 0 if raises else fail_at, first, first if raises else rest)
        self.handler.answers = answers
        session = self.crew.seats[worker]
        self.dispatcher.attempt(session, batch, time.monotonic())
        if session.error is not None:
            self.crew.reconnect(worker, session.error)

    def expect(self, batch: Sequence[Delivery], fail_at: int, first: str, rest: str) -> None:
        """Note what is held back, and thus has no attempt, and what may have been sent."""
        failed: set[str] = set()
        for at, delivery in enumerate(batch[fail_at:]):
            entry, error = self.entries[delivery.payload], rest if at else first
            entry.maybe_sent = entry.maybe_sent or error in WRITTEN
            entry.attempts = None
            if delivery.key in failed:
                entry.single = True
                entry.attempts = None if error in WRITTEN else delivery.attempts + 1
            elif delivery.key is not None:
                failed.add(delivery.key)

    def take(self, worker: int, limit: int, late_s: float = 0.0) -> list[Delivery]:
        session, now = self.crew.seats[worker], time.monotonic() + late_s
        if session.in_flight:
            return []
        if worker == ISOLATED:
            batch = self.target.take_suspects(limit, now)
        else:
            takeable = self.target.mailbox.takeable(worker, alone_ok=True)
            batch = self.target.take(worker, limit, now, alone_ok=True)
            assert takeable or not batch, "takeable said no, and a worker would sleep"
        assert len(batch) <= limit
        for at, delivery in enumerate(batch):
            self.check_order(delivery, [one for one in batch[:at] if one.key == delivery.key])
        return list(batch)

    def check_order(self, delivery: Delivery, mates: Sequence[Delivery]) -> None:
        """All before it of its key have ended, or are its mates in the batch and were never attempted."""
        entry = self.entries[delivery.payload]
        assert not entry.receipt.done(), "attempted after its end"
        assert entry.attempts is None or delivery.attempts + 1 == entry.attempts, (
            "counted an attempt too many"
        )
        assert not (entry.maybe_sent and self.on_unknown == "report"), "tried again, and may have been sent"
        if entry.key is None:
            return
        ended = {one.payload for one, _ in self.waiting_fallbacks}
        ended |= {one.payload for _, one, _ in self.target.settlements.results if not one.holds_lane}
        ended |= {one.payload for one in mates}
        left = [n for n, one in enumerate(self.entries) if one.key == entry.key and not one.receipt.done()]
        assert next(n for n in left if n not in ended) == delivery.payload, "overtaken within its key"
        for one in (*mates, delivery) if mates else ():
            assert not self.entries[one.payload].single, "held back, and in a run"
            assert not one.attempts, "tried again in a run"
            assert not one.losses, "tried again in a run"
        hung = {one.key for batch in self.hung.values() for one in batch}
        assert entry.key not in hung, "two batches with one key"

    @rule(worker=st.integers(0, WORKERS), limit=st.integers(2, 8))
    def hang(self, worker: int, limit: int) -> None:
        batch = self.take(worker, limit)
        if batch:
            self.crew.seats[worker].begin_together(batch, time.monotonic())
            self.hung[worker] = batch

    @precondition(lambda self: self.hung)
    @rule(late=st.booleans(), died=st.booleans())
    def give_up(self, late: bool, died: bool) -> None:
        """Abandon a worker as its pool does: stuck for too long, or dead."""
        worker, batch = self.hung.popitem()
        for delivery in batch:
            entry = self.entries[delivery.payload]
            entry.attempts, entry.maybe_sent = None, entry.maybe_sent or not died
        left = self.crew.seats[worker].abandon(
            0.0 if late else 30.0, UnknownOutcomeError("gone"), running=ValueError("died") if died else None
        )
        for delivery, answer in hold_back(self.target, [one for one, _ in left], left):
            self.target.add_result(delivery, answer)

    @rule(verdict=st.sampled_from([None, None, Retry(delay_s=20.0), Retry(retries=1)]))
    def process_a_result(self, verdict: Any) -> None:
        self.verdict = verdict
        if self.target.settlements.results:
            _, delivery, answer = self.target.settlements.results.popleft()
            self.crew.judge.process(delivery, answer)

    @precondition(lambda self: self.waiting_fallbacks)
    @rule()
    def fallback_ends(self) -> None:
        self.waiting_fallbacks.pop(0)[1]()

    # -- time, and the end ----------------------------------------------------------------------------

    @rule(jump_s=st.sampled_from([0.0, 30.0, 100.0]))
    def time_passes(self, jump_s: float) -> None:
        tick(self.target, time.monotonic() + jump_s)

    @precondition(lambda self: not self.stopped and len(self.entries) > 30)
    @rule()
    def stop_accepting(self) -> None:
        drop_later_than(self.target, time.monotonic() + 60.0)
        self.stopped = True

    @invariant()
    def accounts_add_up(self) -> None:
        if hasattr(self, "target"):
            ended = sum(self.target.counters.statuses.values())
            assert self.target.counters.accepted() == len(self.entries) == ended + self.target.pending()

    def teardown(self) -> None:
        if not hasattr(self, "target"):
            return
        if len(self.entries) % 2:
            self.work_off()
        close(self.target)
        self.crew.answer_all()
        while self.waiting_fallbacks:
            self.waiting_fallbacks.pop()[1]()
        assert self.target.pending() == 0
        for entry in self.entries:
            assert entry.receipt.done(), "an end is missing"
            status = entry.receipt.outcomes()[0].status
            assert not (entry.maybe_sent and status in ("dropped", "expired")), "it may have been sent"

    def work_off(self) -> None:
        """With workers that succeed, and time for what is due later, everything comes to its end."""
        while self.hung:
            self.give_up(late=False, died=False)
        for _ in range(3 * len(self.entries) + 3):
            self.verdict = None
            self.crew.answer_all()
            self.time_passes(30.0)
            for worker in range(WORKERS + 1):
                self.deliver(worker, 8, 99, "failed", "same", raises=False, late_s=0.0)
        self.crew.answer_all()
        assert self.target.pending() == 0, f"no worker can take {self.target.mailbox}"


TestRuns = pytest.mark.timeout(600)(RunsModel.TestCase)  # it computes all the time
TestRuns.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Spare the log the thousands of failures that the model asks for."""
    logger = logging.getLogger("rambla_py")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)
