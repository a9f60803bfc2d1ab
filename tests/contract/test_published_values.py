"""What may be published, where it goes, and with which options."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, service, table, until
from surface_cases import ECHO, Options, echo

from rambla_py import (
    Handler,
    Message,
    NotRunningError,
    OptionError,
    Rambla,
    UnknownChannelError,
)


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


def test_several_channels_get_it_each_once() -> None:
    """A name may come twice, and any iterable of names will do; each target gets the message once."""
    config = {"probe": service(ECHO, a={}, b={}, c={})}
    with running(config) as app:
        outcomes = app.publish((name for name in "aba"), 1).outcomes(timeout_s=TIMEOUT_S)
        assert sorted(outcome.channel for outcome in outcomes) == ["a", "b"]
        assert [audit.accepted for audit in app.audit().values()] == [1, 1, 0]


def test_a_channel_of_several_services_fans_out_in_the_order_of_the_file() -> None:
    """Results and outcomes are in the order of the configuration, whichever target was first."""
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
    """There is a result for each message, in a fan-out a list in config order; without messages, none."""
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
    """In a fan-out it is enough if one target has an option; the other target does not get it."""
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
        ({"retries": "three"}, ["retries", "probe.orders", "integer"]),
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
