"""DESIGN 3 and 11.1 to 11.3: from a call of publish to the mailbox."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from typing import Annotated, Any

import msgspec
import pytest
from small_apps import TIMEOUT_S, probe, running, service, table

import rambla_py as rambla
from rambla_py import (
    ConfigError,
    Handler,
    Message,
    OptionError,
    Rambla,
    SerializationError,
    UnknownChannelError,
)
from rambla_py.handler import routing


class Options(msgspec.Struct, frozen=True):
    """Options as a handler may declare them."""

    topic: Annotated[str, routing("where messages go")] = "none"
    size: int = 1


def echo(message: Any) -> Any:
    """Return what a handler sees of a message."""
    return {
        "payload": message.payload,
        "id": message.id,
        "key": message.key,
        "headers": dict(message.headers),
        "options": message.options,
        "retries": message.policy.retries,
    }


ECHO = probe(echo, Options=Options, control_headers=("CC", "Nats-*"))
SEND = probe(lambda message: message.body(), takes="bytes")
TWICE = {"one": service(ECHO, orders={}), "two": service(ECHO, orders={})}


def result(receipt: Any) -> Any:
    return receipt.result(timeout_s=TIMEOUT_S)


# -- channels with options bound ----------------------------------------------------------------------


def test_a_channel_binds_options_once() -> None:
    """Options of app.channel reach each message; those of a call win, and headers merge."""
    with running(table(ECHO)) as app:
        orders = app.channel("orders", topic="paid", retries=1, headers={"a": 1})
        bound = result(orders.publish("x"))
        own = result(orders.publish(Message("y", topic="late"), size=2, headers={"b": 2}))
        many = result(orders.publish_many(["x", Message("y", topic="late")]))
        awaited = asyncio.run(_awaited(orders.publish_async("z")))
    assert (bound["options"], bound["retries"], bound["headers"]) == (Options("paid"), 1, {"a": 1})
    assert (own["options"], own["headers"]) == (Options("paid", 2), {"a": 1, "b": 2})
    assert [one["options"].topic for one in many] == ["paid", "paid"]
    assert (awaited["payload"], awaited["options"].topic) == ("z", "paid")


async def _awaited(publishing: Any) -> Any:
    return await (await publishing)


def test_a_channel_outlives_start_stop_and_fork() -> None:
    """It may be made before the start; after the stop it raises; in a forked child it delivers there."""
    app = Rambla(table(ECHO))
    orders = app.channel("orders", size=5)
    with pytest.raises(rambla.NotRunningError):
        orders.publish("early")
    with app:
        assert result(orders.publish("here"))["options"].size == 5
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()
        child = fork.Process(target=_publish_in_child, args=(orders, answers))
        child.start()
        child.join(TIMEOUT_S)
        assert answers.get() == 5
    with pytest.raises(rambla.NotRunningError):
        orders.publish("late")


def _publish_in_child(orders: Any, answers: Any) -> None:
    answers.put(result(orders.publish("child"))["options"].size)


@pytest.mark.parametrize("options", [{"siez": 1}, {"size": "x"}, {"id": "one"}, {"retries": True}])
def test_wrong_options_are_refused_when_a_channel_is_made(options: dict[str, Any]) -> None:
    """app.channel raises OptionError, and UnknownChannelError for a name, before any message."""
    app = Rambla(table(ECHO))
    with pytest.raises(OptionError):
        app.channel("orders", **options)
    with pytest.raises(UnknownChannelError, match="orders"):
        app.channel("ordres")


def test_a_service_and_a_channel_name_one_target() -> None:
    """ "service.channel" reaches one target of a fan-out, in publish, app.channel, ping and fallback."""
    with running(TWICE) as app:
        app.publish("two.orders", 1)
        app.publish(["two.orders", "orders"], 2)
        app.channel("one.orders").publish(3)
        assert app.flush(TIMEOUT_S)
        accepted = {name: audit.accepted for name, audit in app.audit().items()}
        assert len(app.ping("two.orders")) == 1
        with pytest.raises(UnknownChannelError, match=r"'two\.orders'"):
            app.publish("two.ordrs", 1)
    assert accepted == {"one.orders": 2, "two.orders": 2}


def test_a_channel_has_no_dot() -> None:
    """A dot in the name of a channel is a ConfigError."""
    with pytest.raises(ConfigError, match=r"without a dot, got 'a\.b'"):
        Rambla({"one": service(ECHO, **{"a.b": {}})})


# -- capture ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [probe(lambda message: message.payload), SEND])
@pytest.mark.parametrize("how", ["publish", "with an option", "channel", "Message", "many", "async"])
def test_a_reused_dict_arrives_with_the_values_of_each_call(handler: Any, how: str) -> None:
    """What changes after the call has no effect, at any depth, on every way to publish."""
    order = {"n": 0, "lines": [{"n": 0}]}
    with running(table(handler)) as app:
        channel = app.channel("orders", retries=2)
        calls = {
            "publish": lambda: app.publish("orders", order),
            "with an option": lambda: app.publish("orders", order, retries=2),
            "channel": lambda: channel.publish(order),
            "Message": lambda: app.publish("orders", Message(order)),
            "many": lambda: app.publish_many("orders", [order]),
        }
        receipts = []

        async def publish_all() -> None:
            for n in range(3):
                order["n"] = order["lines"][0]["n"] = n  # type: ignore[index]
                if how == "async":
                    waiting = app.publish_async("orders", order)
                    order["n"] = "changed"  # type: ignore[assignment]
                    receipts.append(await waiting)
                else:
                    receipts.append(await asyncio.to_thread(calls[how]))

        asyncio.run(publish_all())
        order["lines"].clear()  # type: ignore[attr-defined]
        seen = [result(receipt) for receipt in receipts]
    wanted = [{"n": n, "lines": [{"n": n}]} for n in range(3)]
    seen = [one[0] if isinstance(one, list) else one for one in seen]
    assert [msgspec.json.decode(one) if isinstance(one, bytes) else one for one in seen] == wanted


def test_headers_and_options_are_captured() -> None:
    """Later changes to the headers and options of a call have no effect."""
    taken = threading.Event()

    def late(message: Any) -> Any:
        taken.wait(TIMEOUT_S)
        return dict(message.headers), message.options

    with running(table(probe(late, Options=dict))) as app:
        headers, extra = {"a": 1}, {"deep": [1]}
        receipt = app.publish("orders", 1, headers=headers, extra=extra)
        headers["a"], extra["deep"][0] = 2, 2
        taken.set()
        assert result(receipt) == ({"a": 1}, {"extra": {"deep": [1]}})


def test_without_a_snapshot_the_payload_is_that_of_the_attempt() -> None:
    """``snapshot = false`` waives the copy: the handler gets the object itself."""
    order = {"n": 0}
    with running(table(probe(lambda message: message.payload is order), snapshot=False)) as app:
        assert result(app.publish("orders", order)) is True


@pytest.mark.parametrize(
    ("payload", "path"),
    [({"order": [1, object()]}, "$.order[1]"), ({"v": float("nan")}, "$.v"), ([float("-inf")], "$[0]")],
)
def test_what_cannot_be_written_is_refused_by_the_call(payload: Any, path: str) -> None:
    """SerializationError names the path, from every way to publish, and nothing is accepted."""
    with running(table(SEND)) as app:
        calls = [
            lambda: app.publish("orders", payload),
            lambda: app.publish("orders", payload, key="k"),
            lambda: app.publish_many("orders", [1, payload]),
            lambda: app.publish_async("orders", payload),
            lambda: app.publish_many_async("orders", [1, payload]),
        ]
        for call in calls:
            with pytest.raises(SerializationError) as caught:
                call()
            assert caught.value.path == path
        assert app.audit()["probe.orders"].accepted == 0


def test_nan_is_null_where_an_option_says_so() -> None:
    """``nan = "null"`` writes NaN and infinities as JSON's null, for a channel or a message."""
    with running(table(SEND)) as app:
        assert result(app.publish("orders", {"v": float("nan")}, nan="null")) == b'{"v":null}'
        assert result(app.channel("orders", nan="null").publish([float("inf")])) == b"[null]"


def test_targets_with_the_same_encoding_share_its_bytes() -> None:
    """A fan-out encodes once for each encoding, and copies once."""
    seen: list[Any] = []
    keep = probe(lambda message: seen.append(message.body()), takes="bytes")
    look = probe(lambda message: seen.append(message.payload))
    services = {
        "a": service(keep, o={}),
        "b": service(keep, o={}),
        "c": service(look, o={}),
        "d": service(look, o={}),
    }
    with running(services) as app:
        app.publish("o", {"n": 1}).result(timeout_s=TIMEOUT_S)
    first, second = (one for one in seen if isinstance(one, bytes))
    third, fourth = (one for one in seen if isinstance(one, dict))
    assert first is second
    assert third is fourth


@pytest.mark.parametrize(("takes", "same"), [("object", True), ("bytes", False)])
def test_a_fallback_gets_what_was_captured(takes: str, same: bool) -> None:
    """The object where the fallback takes objects, also behind a target that takes bytes."""
    order = {"n": 1}

    def refuse(message: Any) -> Any:
        message.body()
        order["n"] = 2
        raise rambla.PermanentError("no")

    first = probe(refuse, takes="bytes")
    last = probe(lambda message: (message.payload, message.body()), takes=takes)
    services = {"a": service(first, o={"fallback": "p"}), "b": service(last, p={})}
    with running(services) as app:
        payload, body = result(app.publish("o", order))
    assert body == b'{"n":1}'
    assert not same or payload == {"n": 1}


# -- envelopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"message": 1}, {"message": 1, "key": "k"}, {"message": 1, "topic": "x", "nonsense": 2}]
)
def test_a_dict_is_a_payload_unless_the_channel_lists_options(given: dict[str, Any]) -> None:
    """By default nothing in a dict sets options, on any way to publish."""
    with running(table(ECHO)) as app:
        seen = [result(app.publish("orders", given)), *result(app.publish_many("orders", [given]))]
    assert [(one["payload"], one["key"], one["options"]) for one in seen] == [(given, None, Options())] * 2


def test_an_envelope_sets_what_its_channel_lists() -> None:
    """A dict that fits sets those options; keywords of the call win; the payload of a Message never does."""
    envelope = {"message": {"n": 1}, "topic": "paid", "key": "k", "headers": {"a": 1}}
    with running(table(ECHO, envelope=["key", "headers", "topic"])) as app:
        seen = result(app.publish("orders", envelope))
        over = result(app.publish("orders", envelope, topic="mine"))
        many = result(app.publish_many("orders", [envelope, {"message": 2}]))
        inside = result(app.publish("orders", Message(envelope)))
    assert (seen["payload"], seen["key"], seen["headers"]) == ({"n": 1}, "k", {"a": 1})
    assert (seen["options"].topic, over["options"].topic) == ("paid", "mine")
    assert [one["payload"] for one in many] == [{"n": 1}, 2]
    assert (inside["payload"], inside["key"]) == (envelope, None)


@pytest.mark.parametrize(
    "extra",
    [
        {"size": 2},
        {"id": "forged"},
        {"topic": 5},
        {"key": "bad\udcff"},
        {"headers": {"a": object()}},
        {"headers": {"cc": "x"}},
        {"headers": {"nats-msg-id": "x"}},
        {7: "no string"},
    ],
)
def test_a_dict_that_does_not_fit_is_a_payload(extra: dict[Any, Any]) -> None:
    """Other keys, values that do not check, and headers that the backend acts on: never an error."""
    given = {"message": 1, **extra}
    with running(table(ECHO, envelope=["key", "headers", "topic"])) as app:
        seen = result(app.publish("orders", given))
    assert (seen["payload"], seen["key"], seen["headers"]) == (given, None, {})


@pytest.mark.parametrize("listed", [["size"], ["id"], ["retries"], ["callbacks"], True])
def test_an_envelope_lists_keys_headers_and_routing_only(listed: Any) -> None:
    """Anything else is a ConfigError."""
    with pytest.raises(ConfigError, match="envelope"):
        Rambla(table(ECHO, envelope=listed))


# -- ids ----------------------------------------------------------------------------------------------


def test_ids_are_random_and_one_a_message() -> None:
    """32 hexadecimal digits, the same on each target of a fan-out, another for each message."""
    with running(TWICE) as app:
        pairs = result(app.publish_many("orders", range(50)))
    ids = [{one["id"] for one in pair} for pair in pairs]
    assert all(len(one) == 1 for one in ids)
    flat = [next(iter(one)) for one in ids]
    assert len(set(flat)) == 50
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in flat)


def test_an_id_stays_the_same_over_retries_and_fallbacks() -> None:
    """Every attempt, on every target of the chain, has the message's id."""
    seen: list[str] = []

    def fail(message: Any) -> Any:
        seen.append(message.id)
        raise rambla.DeliveryError("no")

    services = {
        "a": service(
            probe(fail), o={"fallback": "b.o", "options": {"retries": 1, "backoff": {"initial_s": 0}}}
        ),
        "b": service(probe(lambda message: seen.append(message.id)), o={}),
    }
    with running(services) as app:
        receipt = app.publish("a.o", 1)
        receipt.result(timeout_s=TIMEOUT_S)
    assert len(seen) == 3
    assert set(seen) == {receipt.outcomes()[0].message_id}


# -- what publish raises leaves nothing behind --------------------------------------------------------

BAD = "bad\udcff"


@pytest.mark.parametrize(
    "options",
    [
        {"key": BAD},
        {"id": BAD},
        {"id": ""},
        {"key": 5},
        {"id": 5},
        {"headers": {BAD: 1}},
        {"headers": {"a": BAD}},
        {"headers": {1: "a"}},
        {"headers": [1]},
        {"topic": BAD},
        {"retries": True},
        {BAD: 1},
    ],
)
def test_nothing_is_accepted_by_a_call_that_raises(options: dict[str, Any]) -> None:
    """Ids, keys, headers and names that cannot be are refused, by every way to publish."""
    with running(table(ECHO)) as app:
        ways = [
            lambda: app.publish("orders", 1, **options),
            lambda: app.publish_many("orders", [1, 2], **options),
            lambda: app.publish_many("orders", [1, Message(2, **options), 3]),
            lambda: app.publish_async("orders", 1, **options),
            lambda: app.channel("orders").publish(1, **options),
            lambda: app.channel("orders", **options),
        ]
        for way in ways:
            with pytest.raises(OptionError):
                way()
        assert app.audit()["probe.orders"].accepted == 0


@pytest.mark.parametrize("name", ["delay_s", "expires_s", "backoff"])
@pytest.mark.parametrize("seconds", [float("nan"), -1.0, 1e18, float("-inf")])
def test_a_duration_is_0_to_a_billion_seconds(name: str, seconds: float) -> None:
    """Anything else is an OptionError for a message and a ConfigError in a file."""
    value: Any = {"max_s": seconds} if name == "backoff" else seconds
    with pytest.raises(ConfigError, match=name):
        Rambla(table(ECHO, {name: value}))
    with running(table(ECHO)) as app, pytest.raises(OptionError, match=name):
        app.publish("orders", 1, **{name: value})


@pytest.mark.parametrize(
    "name",
    [
        *("batch_timeout_s", "publish_timeout_s", "attempt_timeout_s", "max_reconnect_s"),
        *("max_unavailable_s", "max_seconds", "slow_restart_s"),
    ],
)
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e18])
def test_a_setting_of_a_channel_is_0_to_a_billion_seconds(name: str, seconds: float) -> None:
    """Anything else is a ConfigError."""
    with pytest.raises(ConfigError, match=name):
        Rambla(table(ECHO, **{name: seconds}))


# -- extension points ---------------------------------------------------------------------------------


def test_a_publish_hook_runs_in_the_callers_thread_before_deliveries_are_made() -> None:
    """It sees the options of a message, and returns those to use; other channels do not ask it."""
    threads = []

    def hook(options: Any) -> Any:
        threads.append(threading.current_thread())
        return {**options, "headers": {**options.get("headers", {}), "traceparent": "00-1"}}

    with running(table(ECHO)) as app:
        (target,) = app._targets()
        target.admission.use(hook)
        seen = result(app.publish("orders", 1, headers={"a": 1}))
    assert seen["headers"] == {"a": 1, "traceparent": "00-1"}
    assert threads == [threading.current_thread()]


class Closed(Handler):
    """Takes nothing."""

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Do nothing."""


def test_publish_many_async_lets_other_tasks_run() -> None:
    """It yields every 1,000 messages."""
    turns = 0

    async def main(app: Rambla) -> int:
        done = asyncio.Event()

        async def count() -> int:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)
            return turns

        counting = asyncio.create_task(count())
        receipt = await app.publish_many_async("orders", range(5_000))
        done.set()
        await receipt
        return await counting

    with running(table(Closed, max_pending=10_000)) as app:
        assert asyncio.run(main(app)) >= 5
        assert app.audit()["probe.orders"].accepted == 5_000
