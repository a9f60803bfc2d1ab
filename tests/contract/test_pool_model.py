"""Pool, mailbox and timer against a plain model, driven by hand: every delivery ends once, in order, accounted for.

No thread runs: the test acts as publisher, two workers, timer, and caller of stop. The code reads the clock
itself (``time.monotonic``), so time passes by giving a later ``now`` to the timer and to ``take``; the times
used are far apart (0, 10, 100 s), so that the seconds of a run do not matter.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hand_crew import WORKERS, HandCrew, Probe
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rambla_py import (
    RETRY,
    STOP,
    AccessError,
    ConnectionLostError,
    Failed,
    MailboxFullError,
    PermanentError,
    Rambla,
    Receipt,
    Retry,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.delivery import Delivery
from rambla_py.errors import describe
from rambla_py.policy import worker_of
from rambla_py.runtime.calls import accept, plan
from rambla_py.runtime.system import System
from rambla_py.runtime.target.isolation import SUSPECT_AFTER_LOSSES
from rambla_py.runtime.target.shutdown import close, drop_later_than
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.timer import tick
from rambla_py.telemetry.events import Event, EventObserver
from rambla_py.telemetry.observers import Observers

ISOLATED = WORKERS
MAX_PENDING = 8
NEVER, LONG_S, SHORT_S = float("inf"), 1_000.0, 50.0


class Entry:
    """State of one accepted message in the model."""

    def __init__(self, number: int, receipt: Receipt, key: str | None, expires_s: float) -> None:
        self.number, self.receipt, self.key, self.expires_s = number, receipt, key, expires_s
        self.attempts = self.losses = self.group = 0
        self.began = self.maybe_sent = False
        self.fatal = False
        self.allowed: set[str] = set()


class PoolModel(RuleBasedStateMachine):
    """Publishes, takes, answers, loses connections, lets time pass, and stops, in any order."""

    @initialize(
        overflow=st.sampled_from(["raise", "drop_oldest", "drop_newest", "block"]),
        on_unknown=st.sampled_from(["retry", "report"]),
        retries=st.integers(0, 2),
        fallback=st.booleans(),
        rounds=st.integers(0, 1),
    )
    def begin(self, overflow: str, on_unknown: str, retries: int, fallback: bool, rounds: int) -> None:
        self.verdict: Any = None
        self.wish: Any = None
        self.heard: Counter[int] = Counter()
        self.ended: Counter[str] = Counter()
        self.entries: dict[int, Entry] = {}
        self.flying: dict[int, Delivery] = {}
        self.seat_of: dict[int, int] = {}
        self.old: list[Delivery] = []
        self.ids: dict[str, int] = {}
        self.stopped = False
        self.overflow, self.on_unknown = overflow, on_unknown
        callbacks = {
            "on_failure": lambda outcome: self.verdict,
            "on_fatal": lambda outcome: self.wish,
            "on_outcome": lambda outcome: self.heard.update([outcome.payload]),
        }
        app = Rambla(
            {
                "probe": {
                    "handler": Probe,
                    "connections": {"here": {}},
                    "channels": {
                        "orders": {
                            "count": WORKERS,
                            "overflow": overflow,
                            "on_unknown": on_unknown,
                            "max_pending": MAX_PENDING,
                            "max_rounds": rounds,
                            "publish_timeout_s": 0.0,
                            "options": {
                                "retries": retries,
                                "expires_s": LONG_S,
                                "backoff": {"initial_s": 0.0, "max_s": 0.0},
                                "callbacks": callbacks,
                            },
                        }
                    },
                }
            }
        )
        observers = Observers()
        observers.observe(EventObserver(self.hear, describe))
        self.system = System(app.config, app.plan, observers, str)
        self.target: Target = self.system.targets.every()[0]
        self.target.wakeup.idle.clear()
        self.workers = self.target.wakeup.workers = HandCrew(self.target, lambda: self.verdict)
        self.waiting_fallbacks: list[tuple[Delivery, Callable[[], None]]] = []
        if fallback:
            self.target.completion.end_sinks.add(self.wait_for_fallback)

    def wait_for_fallback(self, delivery: Delivery, proceed: Callable[[], None]) -> None:
        if delivery.status == "fatal":
            self.waiting_fallbacks.append((delivery, proceed))
        else:
            proceed()

    def hear(self, event: Event) -> None:
        if event.kind == "outcome":
            self.ended[event.data["message_id"]] += 1

    # -- publishing -----------------------------------------------------------------------------------

    @rule(
        key=st.sampled_from([None, None, "a", "b", "c"]),
        expires_s=st.sampled_from([LONG_S, LONG_S, SHORT_S, NEVER]),
        priority=st.sampled_from(["normal", "normal", "high"]),
        delay_s=st.sampled_from([0.0, 0.0, 0.0, 20.0]),
        number=st.integers(1, 3),
    )
    def publish(self, key: str | None, expires_s: float, priority: str, delay_s: float, number: int) -> None:
        options: dict[str, Any] = {}
        if key is not None and not delay_s:  # a delay is a wish to be late: it says nothing of order
            options["key"] = key
        if expires_s != LONG_S:
            options["expires_s"] = expires_s
        if priority != "normal":
            options["priority"] = priority
        if delay_s:
            options["delay_s"] = delay_s
        if self.stopped:
            return  # an app that stops refuses; so nothing is handed to its targets
        for _ in range(number):
            self.publish_one(options)

    def publish_one(self, options: dict[str, Any]) -> None:
        payload = len(self.entries)
        call = plan(self.system.home, (self.target,), (payload,), options, many=False)
        (delivery,), receipt = call.deliveries, call.receipt
        key = options.get("key")
        full = self.target.mailbox.full or (
            key is not None and self.target.mailbox.behind_a_retry(key) >= MAX_PENDING // 2
        )
        try:
            accept(call)
        except MailboxFullError:
            assert full
            assert self.overflow in ("raise", "block")
            return
        assert not (full and self.overflow in ("raise", "block"))
        entry = Entry(payload, receipt, options.get("key"), options.get("expires_s", LONG_S))
        self.entries[payload] = entry
        self.ids[delivery.id] = payload
        if full or self.stopped:
            self.note_drop()

    def note_drop(self) -> None:
        """One of those that were never attempted was dropped, or there was none and the newest was."""
        dropped = [e for e in self.entries.values() if e.receipt.done() and not e.allowed]
        assert len(dropped) <= 1
        for entry in dropped:
            assert not entry.began, "what was attempted is never dropped"
            entry.allowed = {"dropped"}

    # -- working --------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, WORKERS), limit=st.integers(1, 4))
    def take(self, worker: int, limit: int) -> None:
        self.take_at(worker, limit, time.monotonic())

    def take_at(self, worker: int, limit: int, now: float) -> None:
        session = self.workers.seats[worker]
        if session.alone and session.in_flight:
            return
        if worker == ISOLATED:
            self.take_suspects(limit, now)
            return
        takeable = self.target.mailbox.takeable(worker, alone_ok=not session.in_flight)
        batch = self.target.take(worker, limit, now, alone_ok=not session.in_flight)
        assert len(batch) <= limit
        assert takeable or not batch, "takeable said no, and a worker would sleep"
        suspects = [delivery for delivery in batch if delivery.losses >= SUSPECT_AFTER_LOSSES]
        if suspects:
            assert len(batch) == 1, "a suspect among the others"
            assert not session.in_flight, "a suspect on a connection that others use"
            assert suspects[0].past().probing is not None, "a suspect that is no probe"
            self.entries[suspects[0].payload].group = 1
        session.reserve(alone=bool(suspects))
        session.begin_each(batch, now)
        for delivery in batch:
            self.note_attempt(worker, delivery)

    def take_suspects(self, limit: int, now: float) -> None:
        session = self.workers.seats[ISOLATED]
        assert not session.in_flight, "a group before the last one was answered"
        group = self.target.take_suspects(limit, now)
        assert len(group) <= limit
        session.reserve(alone=bool(group))
        session.begin_each(group, now)
        for delivery in group:
            entry = self.entries[delivery.payload]
            assert delivery.losses >= SUSPECT_AFTER_LOSSES
            assert entry.group == 0 or len(group) <= max(1, (entry.group + 1) // 2), "not halved"
            entry.group = len(group)
            self.note_attempt(ISOLATED, delivery)

    def note_attempt(self, worker: int, delivery: Delivery) -> None:
        entry = self.entries[delivery.payload]
        assert not entry.receipt.done(), "attempted after its end"
        assert entry.number not in self.flying, "attempted twice at once"
        assert delivery.attempts == entry.attempts + 1
        assert delivery.losses == entry.losses
        if entry.key is not None:
            mates = [other for other in self.entries.values() if other.key == entry.key]
            assert not any(other.number in self.flying for other in mates), "two of a key in flight"
            first = next(other for other in mates if not other.receipt.done() and not other.fatal)
            assert entry is first, "overtaken within its key"
            probes = delivery.history is not None and delivery.history.probing is not None
            if entry.losses < SUSPECT_AFTER_LOSSES and not probes:
                assert worker_of(entry.key, WORKERS) == worker
        entry.began = True
        self.flying[entry.number] = delivery
        self.seat_of[entry.number] = worker

    def landed(self, entry: Entry) -> None:
        self.old.append(self.flying.pop(entry.number))
        del self.seat_of[entry.number]

    @precondition(lambda self: self.flying)
    @rule(
        data=st.data(),
        answer=st.sampled_from(
            [
                "ok",
                "ok",
                "failed",
                "permanent",
                "returned",
                "unknown",
                "lost",
                "sound",
                "unavailable",
                "elsewhere",
                "access",
            ]
        ),
        verdict=st.sampled_from(
            [None, None, None, RETRY, STOP, Retry(delay_s=20.0), Retry(retries=1), "nonsense"]
        ),
        wish=st.sampled_from([None, None, RETRY, Retry(delay_s=20.0, retries=0)]),
    )
    def answer(self, data: st.DataObject, answer: str, verdict: Any, wish: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)))
        entry, delivery = self.entries[number], self.flying[number]
        self.verdict, self.wish = verdict, wish
        losing = answer in ("unknown", "lost")
        self.expect(entry, answer)
        worker = self.seat_of[number]
        {
            "ok": lambda: delivery.ok("result"),
            "failed": lambda: delivery.failed("no"),
            "permanent": lambda: delivery.failed(PermanentError("no")),
            "returned": lambda: self.workers.seats[worker].settle(delivery, Failed("no", retryable=False)),
            "unknown": lambda: delivery.unknown("gone"),
            "lost": lambda: delivery.failed(ConnectionLostError("gone")),
            "sound": lambda: delivery.unknown(UnknownOutcomeError("late", connection_lost=False)),
            "unavailable": lambda: delivery.failed(UnavailableError("loading")),
            "elsewhere": lambda: delivery.failed(UnavailableError("503", scope="https://a")),
            "access": lambda: delivery.failed(AccessError("401")),
        }[answer]()
        self.landed(entry)
        if losing:
            self.lose(
                worker, UnknownOutcomeError("gone") if answer == "unknown" else ConnectionLostError("gone")
            )
        else:
            self.workers.answer_all()
            self.settle_model()

    def expect(self, entry: Entry, answer: str) -> None:
        """Note what may come of an answer: an end of some kind, or another attempt."""
        entry.maybe_sent = entry.maybe_sent or answer in ("unknown", "sound")
        entry.attempts += 1
        if answer not in ("unknown", "lost", "sound"):
            entry.losses = entry.group = 0
        if answer == "ok":
            entry.allowed = {"ok"}
        elif answer in ("unknown", "sound") and self.on_unknown == "report":
            entry.allowed = {"unknown"}
        elif answer in ("unknown", "lost") and (entry.losses < SUSPECT_AFTER_LOSSES or entry.group > 1):
            entry.losses += 1
            entry.attempts -= answer == "lost"
        elif self.verdict is STOP:
            entry.allowed = {"failed"}
        elif answer in ("unavailable", "elsewhere", "access"):
            entry.allowed = {"again"}
        else:
            entry.allowed = {"fatal", "expired", "again"}

    @rule(worker=st.integers(0, WORKERS), verdict=st.sampled_from([None, STOP]))
    def lose_connection(self, worker: int, verdict: Any) -> None:
        self.verdict, self.wish = verdict, None
        self.lose(worker, ConnectionLostError("the server went away"))

    @precondition(lambda self: self.flying)
    @rule(worker=st.integers(0, WORKERS - 1))
    def lose_connection_twice(self, worker: int) -> None:
        """Two losses in a row: what was in flight both times has to go alone from now on."""
        for _ in range(2):
            self.take_at(worker, 4, time.monotonic())
            self.lose_connection(worker, None)

    def lose(self, worker: int, error: BaseException) -> None:
        for number in [number for number, seat in self.seat_of.items() if seat == worker]:
            self.expect(self.entries[number], "unknown")
            self.landed(self.entries[number])
        self.workers.reconnect(worker, error)
        self.workers.answer_all()
        self.settle_model()

    @precondition(lambda self: self.old)
    @rule(data=st.data(), late=st.sampled_from(["ok", "failed", "unknown"]))
    def settle_late(self, data: st.DataObject, late: str) -> None:
        """An answer to an attempt that is over changes nothing."""
        delivery = data.draw(st.sampled_from(self.old[-20:]))
        before = self.target.counters.statuses.copy(), self.target.pending()
        settles: dict[str, Callable[[], None]] = {
            "ok": delivery.ok,
            "failed": delivery.failed,
            "unknown": delivery.unknown,
        }
        settles[late]()
        self.workers.answer_all()
        assert (self.target.counters.statuses, self.target.pending()) == before

    @precondition(lambda self: self.waiting_fallbacks)
    @rule()
    def fallback_ends(self) -> None:
        delivery, then = self.waiting_fallbacks.pop(0)
        assert not self.entries[delivery.payload].receipt.done(), "done before its fallback"
        then()
        self.workers.answer_all()
        assert self.entries[delivery.payload].receipt.done()

    # -- time -----------------------------------------------------------------------------------------

    @rule(jump_s=st.sampled_from([0.0, 10.0, 30.0, 100.0]))
    def time_passes(self, jump_s: float) -> None:
        now = time.monotonic() + jump_s
        expiring = {
            entry.number
            for entry in self.entries.values()
            if not entry.receipt.done() and not entry.fatal and entry.number not in self.flying
            if entry.expires_s <= jump_s
        }
        for number in expiring:
            self.entries[number].allowed = {"expired"}
        # Those brought forward by an end are seen by the next look, as with the real timer.
        while any(not self.entries[number].receipt.done() for number in expiring):
            before = sum(self.target.counters.statuses.values())
            tick(self.target, now)
            assert sum(self.target.counters.statuses.values()) > before, "the timer does not see what is over"
        tick(self.target, now)
        self.workers.answer_all()
        self.settle_model()

    # -- the end --------------------------------------------------------------------------------------

    @precondition(lambda self: not self.stopped and len(self.entries) > 15)
    @rule(left_s=st.sampled_from([0.0, 1.0, 60.0]))
    def stop_accepting(self, left_s: float) -> None:
        """From now on, drop what is due later; the rest continues."""
        drop_later_than(self.target, time.monotonic() + left_s)
        self.stopped = True
        self.workers.answer_all()
        self.settle_model(also={"dropped"})

    def teardown(self) -> None:
        if not hasattr(self, "target"):
            return
        self.verdict = self.wish = None
        if len(self.entries) % 2:
            self.work_off()
        close(self.target)
        self.workers.answer_all()
        while self.waiting_fallbacks:
            self.waiting_fallbacks.pop()[1]()
        self.workers.answer_all()
        close(self.target)
        self.workers.answer_all()
        self.accounts_add_up()
        assert self.target.pending() == 0
        assert all(entry.receipt.done() for entry in self.entries.values()), "an end is missing"
        assert self.heard == Counter(range(len(self.entries))), "on_outcome was not called once for each"
        assert all(number == 1 for number in self.ended.values())
        assert {self.ids[name] for name in self.ended} == set(self.entries)

    def work_off(self) -> None:
        """With workers that succeed, and time for what is due later, everything comes to its end: nothing is stuck."""
        for _ in range(3 * len(self.entries) + 3):
            for number in sorted(self.flying):
                entry, delivery = self.entries[number], self.flying[number]
                self.expect(entry, "ok")
                delivery.ok()
                self.landed(entry)
            self.workers.answer_all()
            self.settle_model()
            self.time_passes(30.0)
            for worker in range(WORKERS + 1):
                self.take_at(worker, 4, time.monotonic())
        assert self.target.pending() == 0, f"no worker can take {self.target.mailbox}"

    # -- what must hold -------------------------------------------------------------------------------

    def settle_model(self, also: set[str] | None = None) -> None:
        """Compare what was expected with what came, for those that were answered or ran out of time."""
        for entry in self.entries.values():
            waits = any(delivery.payload == entry.number for delivery, _ in self.waiting_fallbacks)
            entry.fatal = entry.fatal or waits
            if entry.receipt.done() or waits:
                status = "fatal" if waits else entry.receipt.outcomes()[0].status
                allowed = entry.allowed | (also or set()) | ({"dropped"} if self.stopped else set())
                if entry.maybe_sent:
                    assert not {"dropped", "expired"} & {status}, "it may have been delivered"
                    allowed |= {"unknown"} if {"dropped", "expired"} & allowed else set()
                assert status in allowed, f"{entry.number}: {status} instead of {allowed}"
                entry.allowed = {status}
            elif entry.number not in self.flying:
                assert not entry.allowed or "again" in entry.allowed, f"{entry.number}: not {entry.allowed}"
                entry.allowed = set()

    @invariant()
    def accounts_add_up(self) -> None:
        if not hasattr(self, "target"):
            return
        statuses, pending = self.target.counters.statuses, self.target.pending()
        assert self.target.counters.accepted() == len(self.entries)
        assert len(self.entries) == sum(statuses.values()) + pending
        unended = sum(not e.receipt.done() for e in self.entries.values())
        assert pending == unended - len(self.waiting_fallbacks)
        assert self.target.in_flight() == len(self.flying) or self.target.state.closed

    @invariant()
    def receipts_tell_what_was_counted(self) -> None:
        if not hasattr(self, "target"):
            return
        reported = Counter(e.receipt.outcomes()[0].status for e in self.entries.values() if e.receipt.done())
        reported.update(fatal=len(self.waiting_fallbacks))
        assert {s: n for s, n in reported.items() if n} == {
            s: n for s, n in self.target.counters.statuses.items() if n
        }

    @invariant()
    def one_end_each(self) -> None:
        if hasattr(self, "ended"):
            assert all(number == 1 for number in self.ended.values())


TestPool = pytest.mark.timeout(600)(PoolModel.TestCase)  # it computes all the time
TestPool.settings = settings(
    max_examples=250 if os.environ.get("CI") == "true" else 60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Spare the log the thousands of failures that the model asks for."""
    logger = logging.getLogger("rambla_py")
    logger.setLevel(logging.CRITICAL)
    yield
    with suppress(ValueError):
        logger.setLevel(logging.NOTSET)
