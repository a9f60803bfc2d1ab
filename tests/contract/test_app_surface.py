"""DESIGN 3: what an app takes, what it hands back, and what it tells about itself."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import msgspec
import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until

import rambla_py as rambla
from rambla_py import (
    Handler,
    MailboxFullError,
    Message,
    NotRunningError,
    OptionError,
    PublishError,
    Rambla,
    ReceiptTimeoutError,
    UnknownChannelError,
)
from rambla_py.handler import per_channel


class Options(msgspec.Struct, frozen=True):
    """Options as a handler may declare them."""

    routing_key: str = "none"
    size: int = 1
    table: Annotated[str, per_channel("where rows go")] = "events"


def echo(message: Any) -> Any:
    """Return all that a handler can see of a message."""
    return {
        "payload": message.payload,
        "id": message.id,
        "key": message.key,
        "headers": dict(message.headers),
        "options": message.options,
        "retries": message.policy.retries,
    }


ECHO = probe(echo, Options=Options)


@pytest.fixture
def gate() -> Any:
    """Return an event that handlers wait for; it is set at the end, so that none of them stays."""
    event = threading.Event()
    yield event
    event.set()


# -- what may be published ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload", [None, False, 0, 1.5, "", "text", b"bytes", [1, 2], (1, 2), {}, {"a": 1}, {1: 2}, {3, 4}]
)
def test_any_value_arrives_as_it_is(payload: Any) -> None:
    """What is published is what the handler gets, of the same type."""
    with running(table(probe(lambda message: message.payload))) as app:
        result = app.publish("orders", payload).result(timeout_s=TIMEOUT_S)
    assert result == payload
    assert type(result) is type(payload)


def test_a_message_carries_options_of_its_own() -> None:
    """The options of a Message reach the handler; keywords of the call win over them."""
    with running(table(ECHO)) as app:
        message = Message({"id": 1}, id="m-1", key="k", headers={"a": 1}, routing_key="paid", size=2)
        seen = app.publish("orders", message, size=3).result(timeout_s=TIMEOUT_S)
    assert (seen["payload"], seen["id"], seen["key"], seen["headers"]) == ({"id": 1}, "m-1", "k", {"a": 1})
    assert seen["options"] == Options(routing_key="paid", size=3)


def test_a_message_inside_a_message_is_a_payload() -> None:
    """A dict with the key "message" in a Message is a payload: it is read once."""
    with running(table(ECHO)) as app:
        seen = app.publish("orders", Message({"message": 1, "nonsense": 2})).result(timeout_s=TIMEOUT_S)
    assert seen["payload"] == {"message": 1, "nonsense": 2}


def test_an_envelope_is_read_as_payload_and_options() -> None:
    """The key "message" of a dict is the payload, its other keys are options."""
    with running(table(ECHO)) as app:
        envelope = {"message": {"n": 1}, "routing_key": "paid", "id": "e-1", "headers": {"a": 1}}
        seen = app.publish("orders", envelope).result(timeout_s=TIMEOUT_S)
    assert (seen["payload"], seen["id"], seen["headers"]) == ({"n": 1}, "e-1", {"a": 1})
    assert seen["options"].routing_key == "paid"


@pytest.mark.parametrize(
    "extra",
    [
        {"routing_kee": "paid"},
        {"callbacks": {"on_success": print}},
        {"serializer": "json:dumps"},
        {7: "a name that is no text"},
    ],
)
def test_an_envelope_with_what_it_must_not_have_is_refused(extra: dict[Any, Any]) -> None:
    """Unknown options, callbacks and dotted paths in an envelope are an OptionError; nothing is accepted."""
    with running(table(ECHO)) as app:
        with pytest.raises(OptionError):
            app.publish("orders", {"message": 1, **extra})
        assert app.audit()["probe.orders"].accepted == 0


def test_an_envelope_can_be_turned_off() -> None:
    """With ``envelope = false`` on the channel, or in [rambla.options], such a dict is a payload."""
    envelope = {"message": 1, "nonsense": 2}
    everywhere = {**table(ECHO), "rambla": {"options": {"envelope": False}}}
    for config in (table(ECHO, envelope=False), everywhere):
        with running(config) as app:
            assert app.publish("orders", envelope).result(timeout_s=TIMEOUT_S)["payload"] == envelope


def test_each_target_of_an_envelope_checks_it() -> None:
    """Where the first target takes no envelopes, an unknown option is still refused for the second."""
    config = {
        "plain": service(ECHO, orders={"envelope": False}),
        "reading": service(ECHO, orders={}),
    }
    with running(config) as app:
        with pytest.raises(OptionError):
            app.publish("orders", {"message": 1, "nonsense": 2})
        assert sum(audit.accepted for audit in app.audit().values()) == 0


def test_a_callable_is_called_by_a_worker_with_the_live_connection() -> None:
    """It is called with source, destination and options, alone, on a worker; what it returns is the result."""
    handler = probe(echo, Options=Options, connect=lambda self: "the connection")

    def work(*, source: Any, destination: Any, options: Any) -> Any:
        return source, destination, options.size, threading.current_thread() is threading.main_thread()

    with running(table(handler)) as app:
        result = app.publish("orders", work, size=9).result(timeout_s=TIMEOUT_S)
    assert result == (handler, "the connection", 9, False)


def test_a_callable_that_raises_is_retried() -> None:
    """A callable fails, is retried, and ends as a handler's message does."""
    calls = Seen()

    def work(*, source: Any, destination: Any, options: Any) -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("not yet")
        return "done"

    with running(table(ECHO)) as app:
        outcome = one(app, work)
    assert (outcome.status, outcome.result, outcome.attempts) == ("ok", "done", 3)


def test_after_a_callable_that_raised_the_rest_of_its_batch_gets_a_fresh_connection() -> None:
    """A failed attempt is followed by a fresh connection, for what was taken along with it too."""
    numbers = iter(range(100))
    go, used = threading.Event(), Seen()

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[Any]:
        if messages[0].payload == "first":
            go.wait(TIMEOUT_S)
        used.append(state.connection)
        return [state.connection for _ in messages]

    def spoil(*, source: Any, destination: Any, options: Any) -> None:
        raise ValueError("the connection may be anyhow now")

    handler = probe(connect=lambda self: next(numbers), handle_batch=handle_batch)
    with running(table(handler), go) as app:
        app.publish("orders", "first")
        spoilt = app.publish("orders", spoil, retries=0)
        plain = app.publish("orders", "plain")
        go.set()
        assert spoilt.outcomes(timeout_s=TIMEOUT_S)[0].status == "fatal"
        assert plain.result(timeout_s=TIMEOUT_S) != 0


# -- where it goes ------------------------------------------------------------------------------------


def test_several_channels_get_it_each_once() -> None:
    """A name may come twice, and any iterable of names will do; each target gets the message once."""
    config = {"probe": service(ECHO, a={}, b={}, c={})}
    with running(config) as app:
        outcomes = app.publish((name for name in "aba"), 1).outcomes(timeout_s=TIMEOUT_S)
        assert sorted(outcome.channel for outcome in outcomes) == ["a", "b"]
        assert [audit.accepted for audit in app.audit().values()] == [1, 1, 0]


def test_a_channel_of_several_services_fans_out_in_the_order_of_the_file() -> None:
    """Results and outcomes stand in config order, whichever target was first."""
    go = threading.Event()

    def slow(message: Any) -> str:
        go.wait(TIMEOUT_S)
        return "slow"

    def quick(message: Any) -> str:
        return "quick"

    config = {"slow": service(probe(slow), orders={}), "quick": service(probe(quick), orders={})}
    with running(config, go) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: app.audit()["quick.orders"].ok == 1)
        assert not receipt.done()
        go.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == ["slow", "quick"]
        assert [outcome.service for outcome in receipt.outcomes()] == ["slow", "quick"]


def test_the_copies_of_a_message_share_an_id_and_messages_do_not() -> None:
    """One id in a fan-out, given or made; another for each message."""
    config = {"one": service(ECHO, orders={}), "two": service(ECHO, orders={})}
    with running(config) as app:
        ids = [
            [outcome.message_id for outcome in app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)]
            for _ in range(50)
        ]
        given = app.publish("orders", 1, id="mine").result(timeout_s=TIMEOUT_S)
    assert all(first == second for first, second in ids)
    assert len({first for first, _ in ids}) == 50
    assert [seen["id"] for seen in given] == ["mine", "mine"]


def test_ids_differ_between_channels_apps_and_messages() -> None:
    """No two messages of two apps with two channels have the same id."""
    config = {"probe": service(ECHO, a={}, b={})}
    with running(config) as app, running(config) as other:
        outcomes = [one(where, n, channel=name) for where in (app, other) for name in "ab" for n in range(9)]
    assert len({outcome.message_id for outcome in outcomes}) == 36


def test_threads_that_publish_to_several_targets_do_not_disturb_each_other() -> None:
    """However often they take turns, each message gets an id of its own."""
    publishers, many = 4, 5_000
    before = sys.getswitchinterval()
    config = {"probe": service(ECHO, a={"max_pending": 50_000}, b={"max_pending": 50_000})}
    with running(config) as app, ThreadPoolExecutor(publishers) as pool:
        sys.setswitchinterval(1e-6)
        try:
            receipts = list(pool.map(lambda _: app.publish_many(["a", "b"], range(many)), range(publishers)))
        finally:
            sys.setswitchinterval(before)
        ids = [outcome.message_id for receipt in receipts for outcome in receipt.outcomes(TIMEOUT_S)]
    assert len(set(ids)) == len(ids) / 2 == publishers * many


def test_publish_many_answers_by_message() -> None:
    """Results stand by message; with a fan-out each is a list in config order; none at all is an empty list."""
    config = {
        "one": service(probe(lambda message: ("one", message.payload)), orders={}, alone={}),
        "two": service(probe(lambda message: ("two", message.payload)), orders={}),
    }
    with running(config) as app:
        both = app.publish_many("orders", (n for n in range(3)))
        assert both.result(timeout_s=TIMEOUT_S) == [[("one", n), ("two", n)] for n in range(3)]
        assert [outcome.service for outcome in both.outcomes()] == ["one", "two"] * 3
        single = app.publish_many("alone", ["x"]).result(timeout_s=TIMEOUT_S)
        assert single == [("one", "x")]
        assert app.publish_many("orders", []).result(timeout_s=TIMEOUT_S) == []


def test_publish_many_accepts_all_or_refuses_all() -> None:
    """A wrong option of the last message refuses them all, before anything is accepted."""
    with running(table(ECHO)) as app:
        with pytest.raises(OptionError):
            app.publish_many("orders", [1, Message(2), Message(3, nonsense=1)])
        assert app.audit()["probe.orders"].accepted == 0


# -- options ------------------------------------------------------------------------------------------


def layered() -> dict[str, Any]:
    """Return a configuration with options on every level."""
    levels = ["rambla", "service", "connection", "channel"]
    headers = [{name: name for name in levels[at:]} | {level: "own"} for at, level in enumerate(levels)]
    return {
        "rambla": {"options": {"routing_key": "rambla", "retries": 1, "headers": headers[0]}},
        "probe": {
            "handler": ECHO,
            "options": {"retries": 2, "size": 2, "headers": {"service": "s", "connection": "s"}},
            "connections": {
                "here": {"options": {"retries": 3, "headers": {"connection": "c", "channel": "c"}}}
            },
            "channels": {
                "orders": {"options": {"retries": 4, "headers": {"channel": "ch", "message": "ch"}}}
            },
        },
    }


def test_options_of_five_levels_merge_and_headers_key_by_key() -> None:
    """[rambla.options] < service < connection < channel < message, for each option by itself."""
    with running(layered()) as app:
        seen = app.publish("orders", 1, headers={"message": "m"}, retries=5).result(timeout_s=TIMEOUT_S)
        without = app.publish("orders", 1).result(timeout_s=TIMEOUT_S)
    assert seen["options"] == Options(routing_key="rambla", size=2)
    assert (seen["retries"], without["retries"]) == (5, 4)
    expected = {"rambla": "own", "service": "s", "connection": "c", "channel": "ch"}
    assert seen["headers"] == {**expected, "message": "m"}
    assert without["headers"] == {**expected, "message": "ch"}


def test_an_option_reaches_only_the_targets_that_declare_it() -> None:
    """In a fan-out one target that knows an option is enough, and the other does not hear of it."""
    config = {"plain": service(probe(echo), orders={}), "rich": service(ECHO, orders={})}
    with running(config) as app:
        plain, rich = app.publish("orders", 1, routing_key="paid").result(timeout_s=TIMEOUT_S)
    assert plain["options"] is None
    assert rich["options"].routing_key == "paid"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"routing_kay": "x"}, ["routing_kay", "routing_key", "probe.orders"]),
        ({"retrys": 1}, ["retrys", "retries"]),
        ({"retries": "three"}, ["retries", "probe.orders", "whole number"]),
        ({"retries": -1}, ["retries"]),
        ({"size": "big"}, ["size", "probe.orders"]),
        ({"priority": "urgent"}, ["priority", "urgent"]),
        ({"key": 7}, ["key"]),
        ({"id": ""}, ["id"]),
        ({"headers": {"a": object()}}, ["headers", "a"]),
        ({"headers": "a=b"}, ["headers", "mapping"]),
        ({"table": "mine"}, ["table", "per channel"]),
        ({"max_pending": 3}, ["max_pending"]),
        ({"delay_s": 5, "expires_s": 5}, ["delay_s", "expires_s"]),
        ({"delay_s": 301}, ["delay_s", "expires_s"]),
        ({"callbacks": {"on_sucess": print}}, ["callbacks"]),
        ({"callbacks": {"on_success": 7}}, ["callbacks"]),
        ({"serializer": "no_such:thing"}, ["serializer", "no_such"]),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_nothing_is_accepted(
    options: dict[str, Any], words: list[str]
) -> None:
    """publish raises OptionError at once; the text names the option, where, and the nearest one."""
    with running(table(ECHO)) as app:
        with pytest.raises(OptionError) as caught:
            app.publish("orders", 1, **options)
        assert app.audit()["probe.orders"].accepted == 0
    assert caught.value.option in options
    for word in words:
        assert word in str(caught.value)


def test_a_handler_without_options_knows_the_reserved_ones_only() -> None:
    """A handler that declares no Options takes retries, and refuses anything else."""
    with running(table(probe(echo))) as app:
        assert app.publish("orders", 1, retries=9).result(timeout_s=TIMEOUT_S)["retries"] == 9
        with pytest.raises(OptionError):
            app.publish("orders", 1, routing_key="paid")


def test_unknown_channels_are_refused_with_the_nearest_names() -> None:
    """The error is a LookupError too, and nothing is accepted for the channels that are known."""
    with running(table(ECHO)) as app:
        with pytest.raises(UnknownChannelError, match="orders") as caught:
            app.publish(["orders", "ordrs"], 1)
        assert isinstance(caught.value, LookupError)
        with pytest.raises(UnknownChannelError):
            app.publish([], 1)
        assert app.audit()["probe.orders"].accepted == 0


def test_an_app_that_does_not_run_refuses() -> None:
    """Before start and after stop publish raises NotRunningError, which says what to do."""
    app = Rambla(table(ECHO))
    with pytest.raises(NotRunningError, match="start"):
        app.publish("orders", 1)
    app.start()
    app.stop()
    with pytest.raises(NotRunningError, match="stopped"):
        app.publish("orders", 1)
    with pytest.raises(NotRunningError):
        asyncio.run(app.publish_async("orders", 1))


# -- receipts -----------------------------------------------------------------------------------------


def test_a_receipt_that_takes_too_long_says_how_far_it_came(gate: threading.Event) -> None:
    """ReceiptTimeoutError is a TimeoutError, with the results so far; the receipt can be asked again."""
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and 2 if message.payload == 2 else message.payload)
    with running(table(handler), gate) as app:
        receipt = app.publish_many("orders", [0, 1, 2])
        assert until(lambda: app.audit()["probe.orders"].ok == 2)
        with pytest.raises(TimeoutError) as caught:
            receipt.result(timeout_s=0.01)
        assert isinstance(caught.value, ReceiptTimeoutError)
        assert (caught.value.done, caught.value.total, caught.value.results) == (2, 3, [0, 1, None])
        assert not receipt.done()
        gate.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == [0, 1, 2]
        assert receipt.done()


def test_a_failure_is_raised_with_all_outcomes() -> None:
    """PublishError tells which of the targets failed, and carries the outcome of each."""
    config = {
        "good": service(probe(lambda message: "fine"), orders={}),
        "bad": service(probe(flaky(99)), orders={"options": {"retries": 1}}),
    }
    with running(config) as app, pytest.raises(PublishError, match=r"bad\.orders fatal") as caught:
        app.publish("orders", 1).result(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in caught.value.outcomes] == ["ok", "fatal"]
    assert caught.value.outcomes[1].attempts == 2


def test_many_threads_may_wait_for_one_receipt(gate: threading.Event) -> None:
    """Each of them gets the result."""
    results = Seen()
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S) and 7)), gate) as app:
        receipt = app.publish("orders", 1)
        for _ in range(10):
            threading.Thread(target=lambda: results.append(receipt.result(TIMEOUT_S)), daemon=True).start()
        gate.set()
        assert results.wait(10) == [7] * 10


def test_a_receipt_can_be_awaited_by_many_tasks() -> None:
    """A thousand tasks of a loop publish and await at once; the loop goes on meanwhile."""

    async def main(app: Rambla) -> list[Any]:
        async def task(number: int) -> Any:
            return await app.publish("orders", number)

        return await asyncio.wait_for(asyncio.gather(*map(task, range(1_000))), TIMEOUT_S)

    with running(table(probe(lambda message: message.payload))) as app:
        assert asyncio.run(main(app)) == list(range(1_000))


def test_awaiting_a_failure_raises_it_and_awaiting_twice_is_allowed() -> None:
    """``await receipt`` raises PublishError, and gives the result to as many as ask, also when done."""

    async def main(app: Rambla) -> None:
        with pytest.raises(PublishError):
            await app.publish("orders", "bad", retries=0)
        receipt = app.publish("orders", "good")
        assert await asyncio.wait_for(_both(receipt), TIMEOUT_S) == ["good", "good"]
        assert await receipt == "good"

    async def _both(receipt: Any) -> list[Any]:
        async def wait() -> Any:
            return await receipt

        return list(await asyncio.gather(wait(), wait()))

    def handle(message: Any) -> Any:
        return message.payload if message.payload == "good" else 1 / 0

    with running(table(probe(handle))) as app:
        asyncio.run(main(app))


def test_a_task_that_stops_waiting_harms_nobody(gate: threading.Event) -> None:
    """Cancelled and timed-out waiters, even of a closed loop, do not keep the receipt from the others."""

    async def impatient(receipt: Any) -> None:
        async def wait() -> None:
            await receipt

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.01)

    async def leave_behind(receipt: Any) -> None:
        asyncio.get_running_loop().call_soon(lambda: None)
        task = asyncio.ensure_future(_await(receipt))
        await asyncio.sleep(0)
        task.cancel()

    async def _await(receipt: Any) -> Any:
        return await receipt

    with running(table(probe(lambda message: gate.wait(TIMEOUT_S) and "done")), gate) as app:
        receipt = app.publish("orders", 1)
        asyncio.run(impatient(receipt))
        asyncio.run(leave_behind(receipt))
        gate.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == "done"


def test_done_callbacks_run_once_before_and_after_the_end(gate: threading.Event) -> None:
    """Those added early and those added late are called once, with the receipt, which is done."""
    calls = Seen()
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S))), gate) as app:
        receipt = app.publish("orders", 1)
        receipt.add_done_callback(lambda done: calls.append(("early", done is receipt, done.done())))
        assert not calls
        gate.set()
        calls.wait(1)
        receipt.add_done_callback(lambda done: calls.append(("late", done is receipt, done.done())))
        assert calls.wait(2) == [("early", True, True), ("late", True, True)]
    assert len(calls) == 2


def test_a_done_callback_that_raises_hurts_nobody(gate: threading.Event) -> None:
    """Early or late, what it raises is logged: the next callback runs, and the worker goes on."""
    calls = Seen()

    def explode(receipt: Any) -> None:
        raise SystemExit("from a done callback")

    with running(table(probe(lambda message: gate.wait(TIMEOUT_S))), gate) as app:
        receipt = app.publish_many("orders", [1, 2])
        receipt.add_done_callback(explode)
        receipt.add_done_callback(calls.append)
        gate.set()
        assert calls.wait(1) == [receipt]
        receipt.add_done_callback(explode)
        assert one(app).status == "ok"


def test_the_receipt_is_done_before_the_callbacks_run(gate: threading.Event) -> None:
    """A callback that waits for its own receipt finds it resolved."""
    found = Seen()
    box: list[Any] = []

    def on_success(outcome: Any) -> None:
        gate.wait(TIMEOUT_S)
        found.append(box[0].result(timeout_s=1.0))

    with running(table(probe(lambda message: 5), {"callbacks": {"on_success": on_success}})) as app:
        box.append(app.publish("orders", 1))
        assert box[0].result(timeout_s=TIMEOUT_S) == 5
        gate.set()
        assert found.wait(1) == [5]


def test_the_level_of_a_receipt_is_that_of_its_weakest_delivery(gate: threading.Event) -> None:
    """accepted, then confirmed; unknown where the answer was lost; accepted where it failed."""

    def handle(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        if message.payload == "lost":
            raise rambla.UnknownOutcomeError("gone")
        if message.payload == "bad":
            raise rambla.PermanentError("no")

    with running(table(probe(handle), on_unknown="report"), gate) as app:
        receipts = {name: app.publish("orders", name) for name in ("good", "lost", "bad")}
        assert {receipt.level for receipt in receipts.values()} == {"accepted"}
        gate.set()
        assert app.flush(TIMEOUT_S)
        levels = {name: receipt.level for name, receipt in receipts.items()}
    assert levels == {"good": "confirmed", "lost": "unknown", "bad": "accepted"}


# -- publish_async ------------------------------------------------------------------------------------


def test_publish_async_waits_for_room_and_leaves_the_loop_alone(gate: threading.Event) -> None:
    """With a full mailbox it waits while other tasks run, and gives a receipt once there is room."""
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and message.payload)

    async def main(app: Rambla) -> Any:
        waiting = asyncio.ensure_future(app.publish_async("orders", "late"))
        ticks = 0
        while ticks < 50:
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        gate.set()
        return await (await asyncio.wait_for(waiting, TIMEOUT_S))

    with running(table(handler, max_pending=1), gate) as app:
        app.publish("orders", "in flight")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        app.publish("orders", "waiting")
        assert asyncio.run(main(app)) == "late"


def test_publish_async_gives_up_after_its_time(gate: threading.Event) -> None:
    """Without room for ``publish_timeout_s`` it raises MailboxFullError, and nothing is accepted."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=1, publish_timeout_s=0.1), gate
    ) as app:
        app.publish("orders", "in flight")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        app.publish("orders", "waiting")
        with pytest.raises(MailboxFullError, match="publish_timeout_s"):
            asyncio.run(app.publish_async("orders", "late"))
        assert app.audit()["probe.orders"].accepted == 2


def test_publish_async_takes_any_iterable_of_names() -> None:
    """An iterator of names, which can be read once only, is enough."""

    async def main(app: Rambla) -> Any:
        return await (await app.publish_async(iter(["a", "b"]), 7))

    with running({"probe": service(probe(lambda message: message.payload), a={}, b={})}) as app:
        assert asyncio.run(main(app)) == [7, 7]


# -- looking ------------------------------------------------------------------------------------------


def test_an_app_lists_channels_connections_and_services_in_config_order() -> None:
    """A channel of two services is listed once; connections with their service; started or not."""
    config = {"two": service(ECHO, b={}, a={}), "one": service(ECHO, a={}, c={})}
    app = Rambla(config)
    assert app.channels() == ["b", "a", "c"]
    assert app.connections() == ["two.here", "one.here"]
    assert app.services() == ["two", "one"]
    assert app.status() == {}
    assert app.audit() == {}


def test_status_tells_state_workers_waiting_flying_and_counts(gate: threading.Event) -> None:
    """By target: idle before the first publish; then workers, queued, in flight, statuses, reasons, last error."""

    def handle(message: Any) -> None:
        if message.payload == "bad":
            raise rambla.PermanentError("no such place")
        gate.wait(TIMEOUT_S)

    with running(table(probe(handle), count=2), gate) as app:
        assert app.status()["probe.orders"].state == "idle"
        assert one(app, "bad").status == "fatal"
        app.publish_many("orders", [1, 2, 3])
        assert until(lambda: app.status()["probe.orders"].in_flight == 2)
        status = app.status()["probe.orders"]
        assert (status.service, status.channel, status.handler) == ("probe", "orders", "Probe")
        assert (status.state, status.workers, status.queued) == ("up", ["up", "up"], 1)
        assert status.statuses["fatal"] == 1
        assert status.reasons["PermanentError"] == 1
        assert status.last_error == "PermanentError: no such place"
        audit = app.audit()["probe.orders"]
        assert (audit.accepted, audit.fatal, audit.pending, audit.balanced) == (4, 1, 3, True)


def test_flush_waits_for_what_was_accepted_and_for_no_more(gate: threading.Event) -> None:
    """It says no while something is pending, and yes when all that was accepted before it has ended."""
    other = threading.Event()

    def handle(message: Any) -> None:
        (gate if message.payload == "first" else other).wait(TIMEOUT_S)

    with running(table(probe(handle)), gate, other) as app:
        app.publish("orders", "first")
        assert app.flush(timeout_s=0.02) is False
        answers = Seen()
        thread = threading.Thread(target=lambda: answers.append(app.flush(TIMEOUT_S)), daemon=True)
        thread.start()
        assert until(lambda: any(target.ledger._flushes for target in app._targets()))
        late = app.publish("orders", "later")
        gate.set()
        assert answers.wait(1) == [True]
        assert not late.done()
    assert app.audit()["probe.orders"].ok == 2


def test_ping_connects_pings_and_closes_on_its_own() -> None:
    """It needs no start; it answers for one channel or all, with the time and the error."""
    steps = Seen()
    good = probe(
        echo,
        connect=lambda self: steps.append("connect"),
        ping=lambda self, connection: steps.append("ping"),
        close=lambda self, connection: steps.append("close"),
    )

    def refuse(self: Handler) -> None:
        raise rambla.AccessError("wrong password")

    app = Rambla({"good": service(good, a={}), "bad": service(probe(echo, connect=refuse), b={})})
    first, second = app.ping(timeout_s=TIMEOUT_S)
    assert (first.service, first.channel, first.ok, first.error) == ("good", "a", True, None)
    assert list(steps) == ["connect", "ping", "close"]
    assert second.ok is False
    assert "wrong password" in (second.error or "")
    assert [ping.channel for ping in app.ping("b", timeout_s=TIMEOUT_S)] == ["b"]
    with pytest.raises(UnknownChannelError):
        app.ping("nowhere")


def test_ping_is_bounded(gate: threading.Event) -> None:
    """A server that never answers costs ``timeout_s``, for all channels together."""
    hanging = probe(echo, ping=lambda self, connection: gate.wait(TIMEOUT_S))
    app = Rambla({"probe": service(hanging, a={}, b={}, c={})})
    pings = app.ping(timeout_s=0.1)
    assert [ping.ok for ping in pings] == [False] * 3
    assert all("0.1" in (ping.error or "") for ping in pings)


# -- apps beside each other, and their lives ----------------------------------------------------------


def test_two_apps_share_nothing(gate: threading.Event) -> None:
    """One that is stuck, full or stopped does not touch the other, of the same configuration."""
    config = table(probe(lambda message: message.payload == "stuck" and gate.wait(TIMEOUT_S)), max_pending=1)
    with running(config, gate) as stuck, running(config) as other:
        stuck.publish("orders", "stuck")
        assert until(lambda: stuck.status()["probe.orders"].in_flight == 1)
        stuck.publish("orders", "full")
        assert one(other).status == "ok"
        assert (stuck.audit()["probe.orders"].ok, other.audit()["probe.orders"].ok) == (0, 1)
        other.stop()
        gate.set()
        assert one(stuck).status == "ok"


@pytest.mark.parametrize("where", ["app", "channel"])
def test_a_disabled_app_checks_and_drops(where: str) -> None:
    """With ``enabled = false`` everything is accepted, checked, dropped, and told; no handler is called."""
    called, told = Seen(), Seen()
    options = {"callbacks": {"on_outcome": told.append}}
    config = table(probe(called.append), options, enabled=where != "channel")
    if where == "app":
        config["rambla"] = {"enabled": False}
    with running(config) as app:
        outcome = one(app, 1)
        assert (outcome.status, outcome.attempts) == ("dropped", 0)
        assert one(app, 1, key="k", delay_s=100).status == "dropped"
        with pytest.raises(OptionError):
            app.publish("orders", 1, nonsense=1)
        with pytest.raises(UnknownChannelError):
            app.publish("ordrs", 1)
        assert app.audit()["probe.orders"].dropped == 2
        assert app.status()["probe.orders"].state == "disabled"
        assert [outcome.status for outcome in told.wait(2)] == ["dropped"] * 2
    assert not called


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAMBLA_ENABLED=0 is ``enabled = false``."""
    monkeypatch.setenv("RAMBLA_ENABLED", "0")
    with running(table(ECHO)) as app:
        assert one(app).status == "dropped"


def test_an_app_starts_and_stops_as_often_as_one_likes() -> None:
    """start and stop twice are once; started again it publishes again, with accounts from zero."""
    app = Rambla(table(probe(lambda message: message.payload)))
    assert app.start() is app.start()
    assert one(app, 1).result == 1
    audit = app.stop()
    assert audit is not None
    assert audit["probe.orders"].ok == 1
    app.stop()
    with app:
        assert one(app, 2).result == 2
        assert app.audit()["probe.orders"].accepted == 1


def test_async_with_starts_and_stops() -> None:
    """``async with`` does what ``with`` does, and does not block the loop."""

    async def main() -> Any:
        async with Rambla(table(probe(lambda message: message.payload))) as app:
            result = await app.publish("orders", 3)
        with pytest.raises(NotRunningError):
            app.publish("orders", 4)
        return result, app.audit()["probe.orders"].ok

    assert asyncio.run(main()) == (3, 1)


def test_the_default_app() -> None:
    """start, publish, publish_many and stop of the package are those of one app; without start they refuse."""
    rambla.stop()
    with pytest.raises(NotRunningError):
        rambla.publish("orders", 1)
    try:
        app = rambla.start(table(probe(lambda message: message.payload)))
        assert rambla.publish("orders", 1).result(timeout_s=TIMEOUT_S) == 1
        assert rambla.publish_many("orders", [2, 3]).result(timeout_s=TIMEOUT_S) == [2, 3]
        assert app.audit()["probe.orders"].ok == 3
    finally:
        rambla.stop()
    with pytest.raises(NotRunningError):
        rambla.publish("orders", 1)


def test_listeners_hear_every_event_until_they_end() -> None:
    """published, each attempt, the outcome, workers up and down; what a listener raises is logged."""
    events = Seen()

    def hear(event: Any) -> None:
        events.append(event)
        raise ValueError("a listener's own mistake")

    logging.getLogger("rambla_py.telemetry").setLevel(logging.CRITICAL)
    try:
        with running(table(probe(flaky(1)))) as app:
            end = app.listen(hear)
            assert one(app).status == "ok"
            assert until(lambda: any(event.kind == "outcome" for event in events))
            end()
            number = len(events)
            one(app)
            assert len(events) == number
    finally:
        logging.getLogger("rambla_py.telemetry").setLevel(logging.NOTSET)
    kinds = [event.kind for event in events]
    assert kinds[0] == "published"
    assert kinds.count("attempt") == 2
    assert kinds.count("outcome") == 1
    attempts = [event for event in events if event.kind == "attempt"]
    assert [type(event.data["error"]) for event in attempts] == [ValueError, type(None)]


def test_a_listener_does_not_open_an_app_that_was_stopped() -> None:
    """Who listens before the start, or stops listening after the stop, changes nothing for publishers."""
    app = Rambla(table(probe(lambda message: None)))
    app.listen(lambda event: None)()
    with pytest.raises(NotRunningError):
        app.publish("orders", "x")
    app.start()
    app.stop()
    app.listen(lambda event: None)()
    with pytest.raises(NotRunningError):
        app.publish("orders", "x")
