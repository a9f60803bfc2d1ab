"""What observers and listeners get, in which order, and what it leaves alone."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import rambla_py as rambla
from rambla_py.errors import RejectedError
from rambla_py.telemetry import Event, Observer

SECRET = "c4n4ry-s3cret"
QUICK = {"initial_s": 0.0, "max_s": 0.0}


@contextmanager
def running(answer: Callable[[Any], Any], **channel: Any) -> Iterator[rambla.Rambla]:
    """Run an app with one channel whose handler returns the given answers."""

    class Answering(rambla.Handler):
        """Answers."""

        guarantee = "at least once"

        def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
            return answer(message)

    connections = {"here": {"password": SECRET}}
    table = {"probe": {"handler": Answering, "connections": connections, "channels": {"orders": channel}}}
    with rambla.Rambla(table) as app:
        yield app


class Recorder:
    """Records every call, and notifies waiters for a number of calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.ends = threading.Semaphore(0)

    def attempted(self, target: Any, deliveries: Any, started_at: float, ended_at: float, error: Any) -> None:
        assert ended_at >= started_at > 0
        self.calls.append(("attempted", (target.name, len(deliveries), type(error).__name__)))

    def ended(self, target: Any, deliveries: Any, status: str) -> None:
        self.calls.append(("ended", (target.name, len(deliveries), status)))
        for _ in deliveries:
            self.ends.release()

    def connection(self, target: Any, worker: int, state: str, error: Any) -> None:
        self.calls.append(("connection", (worker, state)))

    def refused(self, target: Any, number: int) -> None:
        self.calls.append(("refused", number))

    def wait(self, number: int) -> None:
        for _ in range(number):
            assert self.ends.acquire(timeout=10)

    def of(self, kind: str) -> list[Any]:
        return [what for name, what in self.calls if name == kind]


def fail(message: Any) -> Any:
    raise ValueError(f"no, for amqp://u:{SECRET}@host/")


@pytest.mark.parametrize(
    ("answer", "options", "attempts", "status"),
    [
        (lambda message: None, {}, ["NoneType"], "ok"),
        (fail, {"retries": 1, "backoff": QUICK}, ["ValueError", "ValueError"], "fatal"),
        (lambda message: rambla.Failed("no", retryable=False), {}, ["DeliveryError"], "fatal"),
        (lambda message: rambla.Failed, {"retries": 0}, ["HandlerError"], "fatal"),
    ],
)
def test_each_attempt_and_the_end_are_observed(
    answer: Any, options: dict[str, Any], attempts: list[str], status: str
) -> None:
    """Whatever the answer: each attempt with its error, then one end."""
    seen = Recorder()
    with running(answer, options=options) as app:
        app.observe(seen)
        app.publish("orders", 1)
        seen.wait(1)
    assert [error for _, _, error in seen.of("attempted")] == attempts
    assert seen.of("ended") == [("probe.orders", 1, status)]
    assert ("connection", (0, "up")) in seen.calls


@pytest.mark.parametrize(
    ("raised", "end"),
    [
        (rambla.UnknownOutcomeError("no answer"), "unknown"),
        (rambla.ConnectionLostError("gone"), "ok"),
    ],
)
def test_losses_and_unknown_outcomes_are_attempts(raised: BaseException, end: str) -> None:
    """An attempt that was lost is observed as one, and the connection as lost."""
    answers = iter([raised])

    def answer(message: Any) -> None:
        for error in answers:
            raise error

    seen = Recorder()
    with running(answer, on_unknown="report") as app:
        app.observe(seen)
        app.publish("orders", 1)
        seen.wait(1)
        assert app.status()["probe.orders"].lost_connections <= 1
    assert seen.of("attempted")[0] == ("probe.orders", 1, type(raised).__name__)
    assert seen.of("ended") == [("probe.orders", 1, end)]
    assert (0, "lost") in seen.of("connection")


@pytest.mark.parametrize(
    ("error", "state"),
    [(rambla.UnavailableError("loading"), "blocked"), (rambla.AccessError("no such user"), "down")],
)
def test_a_pause_of_the_target_is_observed_and_its_end(error: BaseException, state: str) -> None:
    """An answer that pauses the target is a change of the connection that had it; so is the end of it."""
    refusals = iter([error, error])

    def answer(message: Any) -> None:
        for refusal in refusals:
            raise refusal

    seen, errors = Recorder(), []

    class WithErrors:
        def connection(self, target: Any, worker: int, state: str, error: Any) -> None:
            errors.append(error)

    with running(answer, max_reconnect_s=0.1) as app:
        app.observe(seen)
        app.observe(WithErrors())
        app.publish_many("orders", [1, 2, 3])
        seen.wait(3)
    assert seen.of("connection") == [(0, "up"), (0, state), (0, "up")]
    assert errors == [None, error, None]


def test_other_scopes_are_no_change_of_the_connection() -> None:
    """What is unavailable for some of the messages leaves the others their connection."""
    refusals = iter([rambla.UnavailableError("later", scope="http://here/a")])

    def answer(message: Any) -> None:
        for refusal in refusals:
            raise refusal

    seen = Recorder()
    with running(answer, max_reconnect_s=0.1) as app:
        app.observe(seen)
        app.publish_many("orders", [1, 2, 3])
        seen.wait(3)
    assert seen.of("connection") == [(0, "up")]


def test_a_connection_on_hold_is_blocked_until_it_is_not() -> None:
    """A handler that puts its connection on hold, and takes it off again."""
    links: list[rambla.Link] = []
    blocked = threading.Event()

    class Holding(rambla.Handler):
        """Delivers, and keeps its link."""

        guarantee = "none"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            links.append(self.link)

    class Watching(Recorder):
        def connection(self, target: Any, worker: int, state: str, error: Any) -> None:
            super().connection(target, worker, state, error)
            if state == "blocked":
                blocked.set()

    seen = Watching()
    with rambla.Rambla({"probe": {"handler": Holding, "channels": {"orders": {}}}}) as app:
        app.observe(seen)
        app.publish("orders", 1).result(timeout_s=10)
        links[0].hold()
        assert blocked.wait(10)
        receipt = app.publish("orders", 2)
        links[0].release()
        receipt.result(timeout_s=10)
    assert seen.of("connection") == [(0, "up"), (0, "blocked"), (0, "up")]


def test_details_show_only_with_log_payloads(caplog: pytest.LogCaptureFixture) -> None:
    """What a server says of a message is in log, status, events and errors only where that was asked for."""

    class Refusing(rambla.Handler):
        """Refuses, as a server that quotes what it got."""

        guarantee = "none"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            raise RejectedError("code 27").with_detail(f"cannot parse {message.payload!r} for {SECRET}")

    service = {"handler": Refusing, "connections": {"c": {"password": SECRET}}, "channels": {"orders": {}}}
    options = {"retries": 1, "backoff": QUICK}
    for shown in (False, True):
        caplog.clear()
        events: list[Event] = []
        settings = {"options": options, "log_payloads": shown}
        with rambla.Rambla({"rambla": settings, "probe": service}) as app:
            app.listen(events.append)
            (outcome,) = app.publish("orders", "4111-1111").outcomes(timeout_s=10)
            last = app.status()["probe.orders"].last_error
        reported = [last, *(event.data["error"] for event in events if event.data.get("error"))]
        reported += [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(reported) >= 6
        wanted = "code 27; the server says: cannot parse '4111-1111' for ***" if shown else "code 27"
        assert all(text.endswith(f"RejectedError: {wanted}") for text in reported), reported
        assert "4111" not in f"{outcome.error} {outcome.error!r}"
        assert SECRET not in caplog.text + repr(events)


def test_a_batch_is_one_call() -> None:
    """Observers are called once a batch: far fewer calls than messages."""
    seen = Recorder()
    with rambla.Rambla({"null": {"connections": {"c": {}}, "channels": {"orders": {}}}}) as app:
        app.observe(seen)
        app.publish_many("orders", list(range(5000))).result(timeout_s=10)
        seen.wait(5000)
    assert sum(number for _, number, _ in seen.of("attempted")) == 5000
    assert sum(number for _, number, _ in seen.of("ended")) == 5000
    assert len(seen.of("ended")) < 500


def test_an_observer_leaves_the_fast_path_and_a_listener_gives_it_back() -> None:
    """An observer keeps plain messages on the fast path; when the last listener ends, they are back on it."""
    with running(lambda message: None) as app:
        app.publish("orders", 1)
        before = dict(app._lifecycle.fast_paths)
        assert before
        ends = [app.observe(Recorder()) for _ in range(32)]
        assert app._lifecycle.fast_paths == before
        stop = app.listen(lambda event: None)
        assert app._lifecycle.fast_paths == {}
        stop()
        for end in ends:
            end()
        app.publish("orders", 2)
        assert app._lifecycle.fast_paths == before
        observers = app._lifecycle._observers
        assert not (observers.attempted)
        assert not (observers.ended)
        assert not (observers.connection)
        assert not (observers.refused)


def test_methods_that_are_not_overridden_are_never_called() -> None:
    """A subclass of Observer costs what it overrides; any object with some of the methods will do."""

    class Counting(Observer):
        number = 0

        def ended(self, target: Any, deliveries: Any, status: str) -> None:
            self.number += len(deliveries)

    counting = Counting()
    with running(lambda message: None) as app:
        app.observe(counting)
        assert app._lifecycle._observers.attempted == ()
        app.publish("orders", 1).result(timeout_s=5)
    assert counting.number == 1


def test_what_an_observer_raises_is_logged_once_a_kind(caplog: pytest.LogCaptureFixture) -> None:
    """It stays, the deliveries end, and the log has one line for each method and class."""
    calls: Counter[str] = Counter()

    class Raising:
        def attempted(self, *args: Any) -> None:
            calls["attempted"] += 1
            raise ValueError("mine")

        def ended(self, *args: Any) -> None:
            calls["ended"] += 1
            raise KeyError("mine, too")

    with running(lambda message: None) as app:
        app.observe(Raising())
        for number in range(5):
            app.publish("orders", number).result(timeout_s=5)
    assert calls == {"attempted": 5, "ended": 5}
    lines = [record for record in caplog.records if record.name == "rambla_py.telemetry"]
    assert len(lines) == 2


@pytest.mark.parametrize("overflow", ["raise", "block"])
def test_refused_publishes_are_counted_and_observed(overflow: str) -> None:
    """As many as raised MailboxFullError, in status, observer and events."""
    gate, seen, events = threading.Event(), Recorder(), []
    channel = {"max_pending": 5, "overflow": overflow, "publish_timeout_s": 0.0}
    with running(lambda message: gate.wait(10), **channel) as app:
        app.observe(seen)
        app.listen(events.append)
        raised = 0
        for number in range(20):
            try:
                app.publish("orders", number)
            except rambla.MailboxFullError:
                raised += 1
        assert app.status()["probe.orders"].refused == raised > 0
        gate.set()
    assert sum(seen.of("refused")) == raised
    assert sum(event.data["number"] for event in events if event.kind == "refused") == raised


@pytest.mark.parametrize("overflow", ["raise", "block"])
def test_each_form_of_a_refused_call_counts_once_for_each_target(overflow: str) -> None:
    """Blocking and async, one message or many: each target without room counts the call once."""
    gate = threading.Event()

    class Waiting(rambla.Handler):
        """Waits for the gate."""

        guarantee = "none"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            gate.wait(10)

    channel = {"max_pending": 1, "overflow": overflow, "publish_timeout_s": 0.01, "batch_size": 1}
    service = {"handler": Waiting, "channels": {"orders": channel}}

    async def async_forms(app: rambla.Rambla) -> int:
        raised = 0
        for call in (
            lambda: app.publish_async("orders", 1),
            lambda: app.publish_many_async("orders", [1, 2, 3]),
        ):
            with pytest.raises(rambla.MailboxFullError):
                await call()
            raised += 1
        return raised

    seen = Recorder()
    with rambla.Rambla({"one": service, "two": service}) as app:
        fill(app, "orders")
        before = {name: status.refused for name, status in app.status().items()}
        app.observe(seen)
        with pytest.raises(rambla.MailboxFullError):
            app.publish("orders", 1)
        with pytest.raises(rambla.MailboxFullError):
            app.publish_many("orders", [1, 2, 3])
        raised = 2 + asyncio.run(async_forms(app))
        after = {name: status.refused - before[name] for name, status in app.status().items()}
        gate.set()
    assert after == {"one.orders": raised, "two.orders": raised}
    assert seen.of("refused") == [1] * 2 * raised


def fill(app: rambla.Rambla, channel: str) -> None:
    """Publish until every target refuses: one message is at its handler, the others wait."""
    for _ in range(100):
        try:
            app.publish(channel, 0)
        except rambla.MailboxFullError:
            if all(status.in_flight and status.queued for status in app.status().values()):
                return
    raise AssertionError("there is always room")


@pytest.mark.parametrize(
    ("answer", "channel", "kinds"),
    [
        (lambda message: None, {}, ["published", "attempt", "outcome"]),
        (fail, {"options": {"retries": 1, "backoff": QUICK}}, ["published", "attempt", "attempt", "outcome"]),
        (lambda message: None, {"enabled": False}, ["published", "outcome"]),
    ],
)
def test_events_come_in_one_order_redacted_and_as_data(answer: Any, channel: Any, kinds: list[str]) -> None:
    """Published, each attempt, outcome; a secret in an error's text is masked, and all of it is JSON."""
    events: list[Event] = []
    done = threading.Event()

    def hear(event: Event) -> None:
        events.append(event)
        if event.kind == "outcome":
            done.set()

    with running(answer, **channel) as app:
        app.listen(hear)
        app.publish("orders", "payl0ad", key="k3y", headers={"h": "h3ader"}, id="order-1")
        assert done.wait(10)
    about_it = [event for event in events if "message_id" in event.data]
    assert [event.kind for event in about_it] == kinds
    assert {event.data["message_id"] for event in about_it} == {"order-1"}
    assert all(later.at >= event.at for event, later in itertools.pairwise(events))
    text = json.dumps([[event.kind, event.service, event.channel, event.at, event.data] for event in events])
    assert not any(hidden in text + repr(events) for hidden in (SECRET, "payl0ad", "k3y", "h3ader"))


def test_a_connect_that_fails_is_an_event() -> None:
    """A broker that is down is not silent: failing, with the redacted error; up, once it is back."""
    tries: list[None] = []
    events: list[Event] = []

    class Connecting(rambla.Handler):
        """Connects at the second try."""

        guarantee = "at least once"

        def connect(self) -> str:
            tries.append(None)
            if len(tries) == 1:
                raise OSError(f"no way to {SECRET}")
            return "connected"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None: ...

    service = {"handler": Connecting, "connections": {"c": {"password": SECRET}}, "channels": {"orders": {}}}
    with rambla.Rambla({"probe": service}) as app:
        app.listen(events.append)
        app.publish("orders", 1).result(timeout_s=20)
    workers = [event.data for event in events if event.kind == "worker"]
    assert [data["state"] for data in workers] == ["failing", "up"]
    assert workers[0]["error_type"] == "OSError"
    assert SECRET not in repr(events)


def test_status_is_data_with_times() -> None:
    """The figures of section 3: JSON-ready, histograms that add up, points in time since the epoch."""
    failures = iter([ValueError("once")])

    def answer(message: Any) -> None:
        for error in failures:
            raise error

    with running(answer, options={"backoff": QUICK}, max_pending=7) as app:
        app.publish("orders", 1).result(timeout_s=5)
        status = app.status()["probe.orders"]
    data = json.loads(json.dumps(status.to_dict()))
    assert (data["state"], data["max_pending"], data["oldest_s"], data["batches"]) == ("up", 7, None, 2)
    assert data["last_error_at"] <= data["last_ok_at"]
    assert data["last_error_at"] > data["since"] - 1 > 1.6e9
    assert {name: sum(one["counts"]) for name, one in data["times"].items()} == {
        "delivery": 1,
        "queue": 1,
        "attempt": 2,
    }
    assert status.guarantee == "at least once"


def test_the_age_of_the_oldest_counts_retries() -> None:
    """A message that waits for its retry is the oldest, although newer ones wait in front of it."""
    with running(fail, options={"backoff": {"initial_s": 30.0}}) as app:
        app.publish("orders", 1)
        assert until(lambda: app.status()["probe.orders"].reasons.get("attempt:ValueError"))
        assert until(lambda: (app.status()["probe.orders"].oldest_s or 0) > 0)
        app.stop(timeout_s=0)


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> bool:
    """Wait for a condition."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return True
        pause.wait(0.005)
    return False


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spare the log what the tests provoke, except where they read it."""
    logger = logging.getLogger("rambla_py")
    logger.setLevel(logging.NOTSET if "caplog" in request.fixturenames else logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)
