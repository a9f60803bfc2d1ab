"""Order by key, priority, delays, expiry and back-off."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

import pytest
from delivery_cases import cause_of, stuck
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, table, until

from rambla_py import (
    STOP,
    ConnectionLostError,
    ExpiredError,
    Handler,
    PermanentError,
    Retry,
    UnknownOutcomeError,
)


class Disorder:
    """A handler's doing: fails often, loses the connection thrice; remembers what succeeded, by key."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.applied: defaultdict[str, list[Any]] = defaultdict(list)
        self.flying: defaultdict[str, int] = defaultdict(int)
        self.most, self.count, self.lock = 0, 0, threading.Lock()

    def __call__(self, message: Any) -> None:
        with self.lock:
            self.count += 1
            number = self.count
            self.flying[message.key] += 1
            self.most = max(self.most, self.flying[message.key])
        try:
            if number % self.every == 0:
                raise ValueError("no")
            if number in (3, 20, 41):
                raise ConnectionLostError("gone")
            with self.lock:
                self.applied[message.key].append(message.payload)
        finally:
            with self.lock:
                self.flying[message.key] -= 1


@pytest.mark.parametrize("count", [1, 3])
def test_the_messages_of_a_key_keep_their_order(count: int) -> None:
    """Through failures, retries with waits and lost connections, over workers: by key, one at a time, in order."""
    doing = Disorder(every=7)
    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.001, retries=50)}
    with running(table(probe(doing), {"callbacks": callbacks}, count=count)) as app:
        receipts = [app.publish("orders", n, key=f"k{n % 5}") for n in range(60)]
        statuses = {receipt.outcomes(timeout_s=20.0)[0].status for receipt in receipts}
    assert statuses == {"ok"}
    assert doing.most == 1
    assert doing.applied == {f"k{k}": list(range(k, 60, 5)) for k in range(5)}


def test_each_key_finds_its_worker_when_all_of_them_sleep() -> None:
    """With several workers, a single message of any key is delivered although nothing else is published."""
    with running(table(probe(lambda message: None), count=4)) as app:
        assert one(app).status == "ok"
        assert until(lambda: app.status()["probe.orders"].workers == ["up"] * 4)
        for number in range(20):
            assert app.publish("orders", 1, key=str(number)).outcomes(timeout_s=3.0)[0].status == "ok"


@pytest.mark.parametrize("end", ["fatal", "expired", "dropped", "failed", "unknown"])
def test_any_end_lets_the_next_of_its_key_go(end: str, gate: threading.Event) -> None:
    """fatal, failed, unknown, expired and dropped release the lane as ok does."""

    def handle(message: Any) -> None:
        if message.payload == "blocker":
            gate.wait(TIMEOUT_S)
        if message.payload == "bad" and end in ("fatal", "failed"):
            raise PermanentError("no")
        if message.payload == "bad" and end == "unknown":
            raise UnknownOutcomeError("gone")

    callbacks = {"on_failure": lambda outcome: STOP if end == "failed" else None}
    overflow = {"overflow": "drop_oldest", "max_pending": 2} if end == "dropped" else {}
    with running(
        table(probe(handle), {"callbacks": callbacks}, on_unknown="report", **overflow), gate
    ) as app:
        if end in ("expired", "dropped"):
            stuck(app, "blocker")
        bad = app.publish("orders", "bad", key="k", **({"expires_s": 0.05} if end == "expired" else {}))
        good = app.publish("orders", "good", key="k")
        if end == "dropped":
            app.publish("orders", "one more")
        if end == "expired":
            assert bad.outcomes(timeout_s=TIMEOUT_S)[0].status == "expired"
        gate.set()
        assert bad.outcomes(timeout_s=TIMEOUT_S)[0].status == end
        assert good.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_other_keys_flow_past_one_that_waits() -> None:
    """A key whose first message waits for its retry holds up its own messages only, and priority does not help."""
    delivered = Seen()

    def handle(message: Any) -> None:
        if message.payload == "first" and message.attempts == 1:
            raise ValueError("no")
        delivered.append(message.payload)

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.2)}
    with running(table(probe(handle), {"callbacks": callbacks})) as app:
        first = app.publish("orders", "first", key="a")
        assert until(lambda: app.status()["probe.orders"].reasons.get("attempt:ValueError"))
        second = app.publish("orders", "second", key="a", priority="high")
        for number in range(5):
            app.publish("orders", number, key=f"b{number}").result(timeout_s=TIMEOUT_S)
        assert not first.done()
        assert not second.done()
        second.result(timeout_s=TIMEOUT_S)
    assert delivered == [0, 1, 2, 3, 4, "first", "second"]


def test_delay_s_holds_a_message_back() -> None:
    """The first attempt is not earlier, and other messages go first."""
    times = Seen()
    with running(table(probe(lambda message: times.append((message.payload, time.monotonic()))))) as app:
        one(app)
        times.clear()
        began = time.monotonic()
        late = app.publish("orders", "late", delay_s=0.3)
        app.publish("orders", "now").result(timeout_s=TIMEOUT_S)
        assert late.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
    assert [name for name, _ in times] == ["now", "late"]
    assert times[1][1] - began >= 0.3


def test_what_waits_behind_a_stuck_worker_expires_on_time(gate: threading.Event) -> None:
    """A timer decides, without an attempt: with the channel's ``expires_s`` and with one of its own."""
    handled = Seen()

    def handle(message: Any) -> None:
        handled.append(message.payload)
        gate.wait(TIMEOUT_S)

    with running(table(probe(handle), {"expires_s": 0.2}), gate) as app:
        stuck(app, "stuck")
        receipts = [
            app.publish("orders", "channel's"),
            app.publish("orders", "own", expires_s=0.1),
            app.publish("orders", "keyed", key="k"),
            app.publish("orders", "behind", key="k"),
            app.publish("orders", "high", priority="high"),
        ]
        began = time.monotonic()
        outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
        assert time.monotonic() - began < 2.0
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("expired", 0)}
    # The connection was up all the time, so there is no last error to blame.
    assert {str(outcome.error) for outcome in outcomes} == {
        f"expires_s = {expires_s} was over after 0 attempts" for expires_s in (0.1, 0.2)
    }
    assert {type(outcome.error) for outcome in outcomes} == {ExpiredError}
    assert handled == ["stuck"]


@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"priority": "high"}], ids=["plain", "key", "high"])
def test_a_message_expires_although_one_before_it_lives_longer(
    options: dict[str, Any], gate: threading.Event
) -> None:
    """Each has its own time: one that never expires, or later, does not keep those behind it alive."""
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S)), {"expires_s": 0.2}), gate) as app:
        stuck(app, "stuck")
        forever = app.publish("orders", "forever", expires_s=float("inf"), **options)
        longer = app.publish("orders", "longer", expires_s=100, **options)
        short = app.publish("orders", "short", **options)
        assert short.outcomes(timeout_s=3.0)[0].status == "expired"
        assert not forever.done()
        assert not longer.done()


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("connect", ["refuses", "hangs"])
def test_a_message_expires_while_nothing_connects(lazy: bool, connect: str, gate: threading.Event) -> None:
    """A server that cannot be reached, or never answers, does not keep a message alive."""

    def connecting(self: Handler) -> None:
        if connect == "hangs":
            gate.wait(TIMEOUT_S)
        raise ConnectionLostError("nobody there")

    with running(
        table(probe(lambda message: None, connect=connecting), {"expires_s": 0.2}, lazy=lazy),
        gate,
        stop_s=1.0,
    ) as app:
        assert lazy or until(lambda: app.status()["probe.orders"].state == "connecting")
        outcome = app.publish("orders", 1).outcomes(timeout_s=3.0)[0]
    assert (outcome.status, outcome.attempts) == ("expired", 0)


def test_what_was_lost_and_put_back_expires_on_time_too(gate: threading.Event) -> None:
    """Deliveries that came back after a loss expire each at its own time, with the loss as the cause."""
    up = threading.Event()
    up.set()

    def connecting(self: Handler) -> None:
        if not up.is_set():
            raise ConnectionLostError("nobody there")

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    taken = Seen()
    with running(table(probe(connect=connecting, handle_deliveries=handle_deliveries)), stop_s=0.3) as app:
        old = app.publish("orders", "old", expires_s=0.3)
        taken.wait(1)
        new = app.publish("orders", "new", expires_s=100)
        taken.wait(2)
        up.clear()
        taken[0].failed(ConnectionLostError("gone"))
        assert until(lambda: app.status()["probe.orders"].queued == 2)
        outcome = old.outcomes(timeout_s=3.0)[0]
        assert not new.done()
    assert outcome.status == "expired"
    assert isinstance(cause_of(outcome), (ConnectionLostError, UnknownOutcomeError))


def test_an_attempt_that_runs_is_not_cut_by_expiry(gate: threading.Event) -> None:
    """After the write the answer counts, however late it comes."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S) and "late"), {"expires_s": 0.05}), gate
    ) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        with pytest.raises(TimeoutError):
            receipt.result(timeout_s=0.3)
        gate.set()
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
    assert (outcome.status, outcome.result) == ("ok", "late")


def test_a_retry_that_would_come_too_late_is_expired_at_once() -> None:
    """No waiting for nothing: the last error is the cause."""
    callbacks = {"on_failure": lambda outcome: Retry(delay_s=50.0)}
    with running(table(probe(flaky(9)), {"expires_s": 10.0, "callbacks": callbacks})) as app:
        outcome = app.publish("orders", 1).outcomes(timeout_s=3.0)[0]
    assert (outcome.status, outcome.attempts) == ("expired", 1)
    assert isinstance(outcome.error, ExpiredError)
    assert isinstance(cause_of(outcome), ValueError)


def test_high_priority_goes_first(gate: threading.Event) -> None:
    """Those of priority "high" are attempted before all that waits, in their order."""
    delivered = Seen()

    def handle(message: Any) -> None:
        if message.payload == "stuck":
            gate.wait(TIMEOUT_S)
        delivered.append(message.payload)

    with running(table(probe(handle)), gate) as app:
        stuck(app, "stuck")
        for number in range(3):
            app.publish("orders", number)
        for number in range(2):
            app.publish("orders", f"high {number}", priority="high")
        gate.set()
        delivered.wait(6)
    assert delivered == ["stuck", "high 0", "high 1", 0, 1, 2]
