"""Lost connections, and settles that come late."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, table, until
from supervision_cases import connecting, errors_in, status_of, target_of

from rambla_py import (
    AccessError,
    ConnectionLostError,
    ExpiredError,
    Handler,
    PermanentError,
    Rambla,
    UnknownOutcomeError,
)
from rambla_py.runtime.delivery.pool import Pool
from rambla_py.runtime.target.shutdown import close


def one_more(app: Rambla, taken: Seen) -> Any:
    """Publish one more message to a handler that leaves settling to the test."""
    receipt = app.publish("orders", "one more")
    taken.wait(len(taken) + 1 if taken[-1].payload != "one more" else len(taken))[-1].ok()
    return receipt.outcomes(timeout_s=TIMEOUT_S)[0]


@pytest.mark.parametrize("error", [ConnectionLostError("gone"), UnknownOutcomeError("gone")])
def test_a_loss_spends_no_retry(error: BaseException) -> None:
    """The worker reconnects and tries again; what may have been written counts as an attempt."""
    connects, tries = Seen(), Seen()

    def handle(message: Any) -> None:
        tries.append(message.attempts)
        if len(tries) <= 2:
            raise error

    # Beside a separate connection for the suspect, the worker may reconnect as well.
    handler = probe(handle, connect=connecting(connects), extra_connections=False)
    with running(table(handler, {"retries": 0})) as app:
        outcome = one(app)
        assert status_of(app).reasons[f"lost:{type(error).__name__}"] == 2
    written = isinstance(error, UnknownOutcomeError)
    assert (outcome.status, outcome.attempts) == ("ok", 3 if written else 1)
    assert tries == ([1, 2, 3] if written else [1, 1, 1])
    assert len(connects) == 3


def test_a_failing_connect_spends_no_attempt_and_is_tried_again() -> None:
    """Messages wait while nothing connects, whatever connect raises; it says so once, as a warning."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if len(connects) <= 2:
            raise OSError("refused") if len(connects) == 1 else SystemExit("refused")

    with running(table(probe(lambda message: None, connect=connect), {"retries": 0})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert len(connects) == 3


def test_a_poison_message_is_sent_alone_and_spends_attempts_then() -> None:
    """After two losses the batch is halved at each loss: the innocent are delivered, the poison fails alone."""
    batches = Seen()

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        batches.append(sorted(str(message.payload) for message in messages))
        if any(message.payload == "poison" for message in messages):
            raise UnknownOutcomeError("the server died of it")
        return [None] * len(messages)

    config = table(probe(handle_batch=handle_batch), {"retries": 1}, batch_size=4, batch_timeout_s=0.1)
    with running(config) as app:
        outcomes = app.publish_many("orders", ["poison", 1, 2, 3]).outcomes(timeout_s=20.0)
    assert [outcome.status for outcome in outcomes] == ["fatal", "ok", "ok", "ok"]
    assert outcomes[0].attempts == 6
    assert max(outcome.attempts for outcome in outcomes[1:]) <= 5
    assert batches[:3] == [["1", "2", "3", "poison"]] * 3
    assert [size for batch in batches[3:] if "poison" in batch for size in [len(batch)]] == [2, 1, 1]
    assert isinstance(outcomes[0].error, UnknownOutcomeError)


def test_alone_means_that_nothing_else_is_in_flight() -> None:
    """Without extra connections, one that was lost twice waits until the others are answered, and the others wait until it is."""
    flights = Seen()
    link: list[Any] = []

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        link[:] = [self.link]
        flights.append(list(deliveries))

    with running(table(probe(handle_deliveries=handle_deliveries, extra_connections=False))) as app:
        app.publish("orders", "suspect")
        for number in (1, 2):
            flights.wait(number)
            link[0].lost(ConnectionLostError("gone"))
        suspect = flights.wait(3)[2]
        assert [delivery.losses for delivery in suspect] == [2]
        later = app.publish("orders", "later")
        assert not until(lambda: len(flights) > 3, timeout_s=0.2)
        suspect[0].ok()
        assert [delivery.payload for delivery in flights.wait(4)[3]] == ["later"]
        flights[3][0].ok()
        assert later.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_waiting_to_be_alone_costs_no_processor_time() -> None:
    """While a suspect waits for the others in flight, its worker sleeps."""
    flights = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            flights.append(delivery)
            if delivery.payload == "suspect" and delivery.losses < 2:
                delivery.failed(ConnectionLostError("gone")) if delivery.losses else delivery.unknown("gone")

    with running(
        table(probe(handle_deliveries=handle_deliveries, extra_connections=False), count=1), stop_s=1.0
    ) as app:
        target = target_of(app)
        app.publish("orders", "starts it")
        flights.wait(1)
        suspect = target.admission.drafts.base.build(
            "suspect", None, next(target.counters.numbers), time.monotonic()
        )
        suspect.losses = 2
        target.put_back([suspect])
        before = time.process_time()
        assert not until(lambda: len(flights) > 1, timeout_s=0.4)
        assert time.process_time() - before < 0.2
        flights[0].ok()
        assert flights.wait(2)[1].payload == "suspect"
        flights[1].ok()


def test_a_pool_that_starts_after_the_end_lets_nothing_wait() -> None:
    """A stop may overtake the start of a channel: a message published at that moment still gets an outcome."""

    def connect(self: Handler) -> None:
        raise OSError("nobody listens")

    with running(table(probe(lambda message: None, connect=connect)), stop_s=1.0) as app:
        target = target_of(app)
        close(target)
        pool = Pool(target)
        pool.open()
        assert until(lambda: target.wakeup.workers is pool and pool.states())
        late = target.admission.accept("late")
        assert late is not None
        assert until(late.done, timeout_s=1.0)
        pool.halt(TIMEOUT_S)
    assert late.outcomes()[0].status == "dropped"


def test_a_link_that_is_lost_while_idle_is_taken_up_again() -> None:
    """A handler may tell of a loss at any time: the worker reconnects although nothing is published."""
    connects: Seen = Seen()
    links: list[Any] = []

    def connect(self: Handler) -> None:
        links.append(self.link)
        connects.append(1)

    with running(table(probe(lambda message: None, connect=connect))) as app:
        assert one(app).status == "ok"
        links[0].lost(ConnectionLostError("the server went away"))
        connects.wait(2)
        links[0].lost(ConnectionLostError("an earlier connection is nobody's business"))
        assert one(app).status == "ok"
        assert len(connects) == 2


def test_a_server_that_asks_for_silence_gets_it() -> None:
    """Held: nothing new is taken, the state is ``blocked``, and attempt_timeout_s does not run for deliveries in flight."""
    taken = Seen()
    links: list[Any] = []

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        links[:] = [self.link]
        for delivery in deliveries:
            taken.append(delivery)

    with running(table(probe(handle_deliveries=handle_deliveries), attempt_timeout_s=0.2)) as app:
        first = app.publish("orders", 1)
        taken.wait(1)
        links[0].hold()
        second = app.publish("orders", 2)
        assert not until(lambda: len(taken) > 1, timeout_s=0.5)
        assert status_of(app).state == "blocked"
        taken[0].ok()
        assert first.outcomes(timeout_s=TIMEOUT_S)[0].attempts == 1
        links[0].release()
        taken.wait(2)[1].ok()
        assert second.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_wrong_credentials_take_the_channel_down_with_one_error(caplog: pytest.LogCaptureFixture) -> None:
    """State ``down``, one error in the log however often it tries, messages bounded by expires_s; then it heals."""
    right = threading.Event()
    tries = Seen()

    def connect(self: Handler) -> None:
        tries.append(1)
        if not right.is_set():
            raise AccessError("ACCESS_REFUSED")

    config = table(probe(lambda message: None, connect=connect), {"expires_s": 0.5}, slow_restart_s=0.1)
    with running(config) as app:
        outcome = one(app)
        assert (outcome.status, outcome.attempts) == ("expired", 0)
        assert str(outcome.error).endswith(
            "was over after 0 attempts; the last error: AccessError: ACCESS_REFUSED"
        )
        assert isinstance(outcome.error, ExpiredError)
        assert isinstance(outcome.error.__cause__, AccessError)
        tries.wait(3)
        assert status_of(app).state == "down"
        assert "ACCESS_REFUSED" in (status_of(app).last_error or "")
        right.set()
        waiting = app.publish("orders", 2, expires_s=20)
        assert waiting.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert status_of(app).state == "up"
    refused = [text for text in errors_in(caplog) if "is down and tries again" in text]
    assert len(refused) == 1


def test_a_delivery_is_settled_once() -> None:
    """The first settle counts; others, of whatever kind and from whatever thread, are ignored."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    with running(table(probe(handle_deliveries=handle_deliveries))) as app:
        receipts = [app.publish("orders", n) for n in range(2)]
        first, second = taken.wait(2)
        first.ok("one")
        first.failed("two")
        first.unknown()
        first.ok("three")
        threads = [threading.Thread(target=lambda: second.ok("both"), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        results = [receipt.result(timeout_s=TIMEOUT_S) for receipt in receipts]
        first.failed("after the end")
        assert one_more(app, taken).status == "ok"
        audit = app.audit()["probe.orders"]
    assert results == ["one", "both"]
    assert (audit.accepted, audit.ok) == (3, 3)


def test_a_settle_from_an_earlier_connection_is_ignored() -> None:
    """After a loss only the new attempt can be settled: the old object is inert."""
    taken = Seen()
    links: list[Any] = []

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        links[:] = [self.link]
        for delivery in deliveries:
            taken.append(delivery)

    with running(table(probe(handle_deliveries=handle_deliveries))) as app:
        receipt = app.publish("orders", 1)
        old = taken.wait(1)[0]
        links[0].lost(UnknownOutcomeError("gone"))
        new = taken.wait(2)[1]
        old.ok("from the connection that is gone")
        old.failed(PermanentError("likewise"))
        with pytest.raises(TimeoutError):
            receipt.result(timeout_s=0.1)
        new.ok("from the living")
        assert receipt.result(timeout_s=TIMEOUT_S) == "from the living"


def test_a_settle_within_the_call_and_an_exception_afterwards() -> None:
    """What was settled before handle_deliveries raised stays so; the rest has failed."""

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        deliveries[0].ok("settled")
        raise PermanentError("the rest")

    with running(table(probe(handle_deliveries=handle_deliveries), batch_size=3, batch_timeout_s=5.0)) as app:
        outcomes = app.publish_many("orders", range(3)).outcomes(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "fatal"]
