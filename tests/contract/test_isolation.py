"""A few bad messages among many good ones: those that end connections, time out, or are never answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, table, until

from rambla_py import AccessError, ConnectionLostError, Handler, Rambla, UnknownOutcomeError

LEVELS = ["publish", "batch", "deliveries", "async publish", "async batch"]
NUMBER = 500
BAD = set(range(7, NUMBER, 50))  # 2 %


class Server:
    """A server that loses the connection on a bad message; it processes in order, as brokers do."""

    def __init__(self, bad: set[Any]) -> None:
        self.bad = bad
        self.applied: Counter[Any] = Counter()
        self.connects = Seen()
        self.error: BaseException = UnknownOutcomeError("closed by the server")

    def send(self, message: Any) -> None:
        """Apply a message, or end the connection."""
        if message.payload in self.bad:
            raise self.error
        self.applied[message.payload] += 1

    def handler(self, level: str, **members: Any) -> type[Handler]:
        """Return a handler of that level for this server."""
        send = self.send

        def connect(self: Handler) -> None:
            server.connects.append(time.monotonic())

        def each(self: Handler, message: Any, options: Any, state: Any) -> None:
            send(message)

        async def each_async(self: Handler, message: Any, options: Any, state: Any) -> None:
            send(message)

        def batch(self: Handler, messages: Any, state: Any) -> Any:
            return answers(messages)

        async def batch_async(self: Handler, messages: Any, state: Any) -> Any:
            return answers(messages)

        def deliveries(self: Handler, messages: Any, state: Any) -> None:
            for message in messages:
                try:
                    send(message)
                except Exception as error:
                    self.link.lost(error)
                    return
                message.ok()

        def answers(messages: Any) -> list[Any]:
            done: list[Any] = []
            for message in messages:
                try:
                    done.append(send(message))
                except UnknownOutcomeError as error:
                    return [*done, *[error] * (len(messages) - len(done))]
            return done

        server = self
        handle: dict[str, Callable[..., Any]] = {
            "publish": each,
            "batch": batch,
            "deliveries": deliveries,
            "async publish": each_async,
            "async batch": batch_async,
        }
        name = f"handle_{level.split()[-1]}"
        return type("Probe", (Handler,), {name: handle[level], "connect": connect, **members})


@pytest.mark.parametrize("extra", [True, False], ids=["isolated", "one connection"])
@pytest.mark.parametrize("level", LEVELS)
def test_bad_messages_end_alone_and_good_ones_come_once(level: str, extra: bool) -> None:
    """Two of a hundred end the connection: the others are delivered, with at most one extra copy."""
    server = Server(BAD)
    handler = server.handler(level, extra_connections=extra)
    with running(table(handler, {"retries": 1})) as app:
        outcomes = app.publish_many("orders", range(NUMBER)).outcomes(timeout_s=40)
    statuses = {outcome.payload: outcome.status for outcome in outcomes}
    assert {payload for payload, status in statuses.items() if status != "ok"} == BAD
    assert {statuses[payload] for payload in BAD} == {"fatal"}
    assert max(server.applied.values()) <= 2
    assert set(server.applied) == set(range(NUMBER)) - BAD


@pytest.mark.parametrize(("extra", "most"), [(True, 3 + NUMBER.bit_length()), (False, 3)])
def test_copies_where_a_server_applies_without_answering(extra: bool, most: int) -> None:
    """A good message comes at two losses, once more at each halving, and alone."""
    server = Server(BAD)

    def deliveries(self: Handler, messages: Any, state: Any) -> None:
        for message in messages:
            try:
                server.send(message)
            except UnknownOutcomeError as error:
                self.link.lost(error)
                return
        for message in messages:
            message.ok()

    handler = server.handler("deliveries", handle_deliveries=deliveries, extra_connections=extra)
    with running(table(handler, {"retries": 1})) as app:
        outcomes = app.publish_many("orders", range(NUMBER)).outcomes(timeout_s=40)
    assert {outcome.payload for outcome in outcomes if outcome.status != "ok"} == BAD
    assert max(server.applied.values()) <= most


@pytest.mark.parametrize("level", ["batch", "deliveries", "async publish", "async batch"])
def test_good_messages_are_not_held_up(level: str) -> None:
    """While suspects are tried, others go out on the ordinary connection, less than a second later."""
    server = Server({"bad"})
    took = []
    with running(table(server.handler(level), {"retries": 1_000}, batch_size=50), stop_s=0.0) as app:
        app.publish("orders", "bad")
        for number in range(100):
            began = time.monotonic()
            assert one(app, number).status == "ok"
            took.append(time.monotonic() - began)
    assert max(took) < 1.0


def test_the_isolated_worker_is_started_on_demand_and_is_one() -> None:
    """It has the next index and a thread of its own; status shows the ordinary workers only."""
    server = Server({"bad"})
    threads = Seen()

    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "isolated" in thread.name]

    def handle(self: Handler, messages: Any, state: Any) -> list[Any]:
        threads.append((state.worker, threading.current_thread().name))
        if any(message.payload == "bad" for message in messages):
            raise UnknownOutcomeError("closed by the server")
        return [None] * len(messages)

    config = table(server.handler("batch", handle_batch=handle), {"retries": 2}, count=2)
    with running(config) as app:
        assert names() == []
        outcome = one(app, "bad")
        assert names() == ["rambla probe.orders isolated worker"]
        assert len(app.status()["probe.orders"].workers) == 2
    assert outcome.status == "fatal"
    assert outcome.attempts == 5
    assert {worker for worker, name in threads if "isolated" in name} == {2}
    assert names() == []


def test_the_messages_of_a_key_keep_their_order_behind_a_suspect() -> None:
    """The next of its key waits until the suspect has ended, however long that takes."""
    server = Server({0})
    order = Seen()

    def handle(self: Handler, messages: Any, state: Any) -> list[Any]:
        for message in messages:
            order.append(message.payload)
        if any(message.payload == 0 for message in messages):
            raise UnknownOutcomeError("closed by the server")
        return [None] * len(messages)

    with running(table(server.handler("batch", handle_batch=handle), {"retries": 2})) as app:
        receipts = [app.publish("orders", number, key="k") for number in range(5)]
        assert receipts[0].outcomes(timeout_s=TIMEOUT_S)[0].status == "fatal"
        for receipt in receipts[1:]:
            receipt.result(timeout_s=TIMEOUT_S)
    assert order[-4:] == [1, 2, 3, 4]
    assert set(order[:-4]) == {0}


@pytest.mark.parametrize("killer", [None, 64])
def test_suspects_are_tried_while_others_are_denied(killer: int | None) -> None:
    """Three of the first group of suspects are denied, and the target pauses: then suspects are its probes.

    One that ends the connection then was alone, and does not keep the next from being tried.
    """
    losses, delivered = iter(range(2)), Seen()

    def answer(message: Any) -> Any:
        if message.payload in (0, 1, 2):
            return AccessError("not allowed")
        delivered.append(message.payload)
        return None

    def handle(self: Handler, messages: Any, state: Any) -> list[Any]:
        if next(losses, None) is not None or any(message.payload == killer for message in messages):
            raise UnknownOutcomeError("closed by the server")
        return [answer(message) for message in messages]

    members = {"handle_batch": handle}
    config = table(Server(set()).handler("batch", **members), {"retries": 1}, max_reconnect_s=0.05)
    with running(config, stop_s=0.1) as app:
        app.publish_many("orders", range(200))
        assert until(lambda: set(delivered) == set(range(3, 200)) - {killer}), set(delivered)
        assert until(lambda: app.audit()["probe.orders"].fatal == (killer is not None))
        assert len(delivered) == len(set(delivered))


def test_what_waited_inside_the_handler_counts_no_loss() -> None:
    """Messages that the handler had not begun with are no suspects, however many connections are lost."""
    attempts = Seen()
    losses = [4]

    def handle(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            attempts.append(delivery.attempts)
        if losses[0]:
            losses[0] -= 1
            self.link.wait(deliveries)
            self.link.lost(ConnectionLostError("gone"))
            return
        for delivery in deliveries:
            delivery.ok()

    with running(table(probe(handle_deliveries=handle))) as app:
        outcome = one(app)
        assert not [thread.name for thread in threading.enumerate() if "isolated" in thread.name]
    assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert list(attempts) == [1] * 5


def in_flight(app: Rambla) -> int:
    return app.status()["probe.orders"].in_flight


@pytest.mark.parametrize("level", ["deliveries", "async publish"])
def test_an_attempt_that_is_never_answered_fails_alone(level: str) -> None:
    """The others in flight keep their connection and their outcome; a late answer is ignored."""
    connects, held = Seen(), Seen()

    def deliveries(self: Handler, messages: Any, state: Any) -> None:
        for message in messages:
            if message.payload == "never":
                held.append(message)
            else:
                message.ok("done")

    async def each(self: Handler, message: Any, options: Any, state: Any) -> str:
        if message.payload == "never":
            held.append(message)
            await asyncio.sleep(TIMEOUT_S)
        return "done"

    methods = {"deliveries": {"handle_deliveries": deliveries}, "async publish": {"handle_publish": each}}
    connect = {"connect": lambda self: connects.append(1)}
    config = table(probe(**methods[level], **connect), {"retries": 1}, attempt_timeout_s=0.3)
    with running(config) as app:
        never, number = app.publish("orders", "never"), 0
        while not never.done():
            assert one(app, number := number + 1).status == "ok"
        outcome = never.outcomes()[0]
        if level == "deliveries":
            held[0].ok("too late")
    assert (outcome.status, outcome.attempts) == ("fatal", 2)
    assert "may have arrived" in str(outcome.error)
    assert len(connects) == 1


def test_a_connection_that_answers_nothing_is_closed() -> None:
    """An attempt took too long, and nothing was answered since it began: the connection is dead."""
    connects = Seen()

    def handle(self: Handler, messages: Any, state: Any) -> None:
        for message in messages:
            if len(connects) > 1:
                message.ok()

    connect = {"connect": lambda self: connects.append(1)}
    config = table(probe(handle_deliveries=handle, **connect), attempt_timeout_s=0.2)
    with running(config) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("ok", 2)
    assert len(connects) == 2


@pytest.mark.parametrize("level", ["batch", "async batch"])
def test_one_of_a_batch_that_is_never_answered_does_not_fail_the_others(level: str) -> None:
    """Each is tried alone on the isolated worker, so that the others come once more only."""
    gate, copies = threading.Event(), Counter[Any]()

    def batch(self: Handler, messages: Any, state: Any) -> list[Any]:
        copies.update(message.payload for message in messages)
        if any(message.payload == "never" for message in messages):
            gate.wait(TIMEOUT_S)
        return [None] * len(messages)

    async def batch_async(self: Handler, messages: Any, state: Any) -> list[Any]:
        copies.update(message.payload for message in messages)
        if any(message.payload == "never" for message in messages):
            await asyncio.sleep(TIMEOUT_S)
        return [None] * len(messages)

    handle = batch if level == "batch" else batch_async
    config = table(probe(handle_batch=handle), {"retries": 0}, attempt_timeout_s=1.0, batch_timeout_s=0.05)
    with running(config, gate) as app:
        receipt = app.publish_many("orders", [*range(3), "never", *range(4, 8)])
        outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
        assert until(lambda: in_flight(app) == 0)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3 + ["fatal"] + ["ok"] * 4
    assert max(copies.values()) == 2


@pytest.mark.parametrize("report", [False, True])
def test_one_of_a_request_that_has_no_answer_fails_alone(report: bool) -> None:
    """The others of the request are sent once more, each alone, and spend no retry; or all are reported."""
    requests = Seen()

    def handle(self: Handler, messages: Any, state: Any) -> None:
        shared = [message for message in messages if not message.alone]
        for request in filter(None, [shared, *([message] for message in messages if message.alone)]):
            requests.append([message.payload for message in request])
            bad = any(message.payload in BAD for message in request)
            error = UnknownOutcomeError("silent", connection_lost=False, together=len(request) > 1)
            for message in request:
                message.failed(error) if bad else message.ok()

    settings = {"on_unknown": "report"} if report else {}
    config = table(probe(handle_deliveries=handle), {"retries": 1}, batch_timeout_s=0.05, **settings)
    with running(config) as app:
        outcomes = app.publish_many("orders", range(NUMBER)).outcomes(timeout_s=TIMEOUT_S)
        assert app.status()["probe.orders"].lost_connections == 0
    copies = Counter(payload for request in requests for payload in request)
    if report:
        assert {outcome.status for outcome in outcomes} <= {"ok", "unknown"}
        assert max(copies.values()) == 1
        return
    assert {at for at, outcome in enumerate(outcomes) if outcome.status == "fatal"} == BAD
    assert {outcome.status for outcome in outcomes} == {"ok", "fatal"}
    assert {outcomes[at].attempts for at in BAD} == {3}
    assert max(count for payload, count in copies.items() if payload not in BAD) == 2
