"""What a message costs, counted in calls and allocations: figures that no busy machine can blur.

A change that makes one of them larger is felt in ``make bench``. Lower the bound when you made it smaller.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import msgspec
import pytest
from counted_calls import Calls
from small_apps import TIMEOUT_S, until

from rambla_py import Handler, Rambla
from rambla_py.delivery import LiveDelivery
from rambla_py.handler import State
from rambla_py.handlers.amqp.encode import FrameEncoder
from rambla_py.handlers.amqp.settings import AmqpOptions
from rambla_py.handlers.redis.encode import RedisOptions, encoder_for

MANY = 400
PAYLOAD: Any = "x" * 20
CAPTURED = {"id": 42}


class Parked(Handler):
    """Takes nothing until the gate is open; what it does then is counted."""

    gate = threading.Event()
    calls = Calls()

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """None."""

    def handle_batch(self, messages: Sequence[LiveDelivery], state: State) -> list[None]:
        self.gate.wait(TIMEOUT_S)
        sys.setprofile(self.calls if len(messages) > 1 else None)
        return [None] * len(messages)


@pytest.fixture
def parked() -> Iterator[Rambla]:
    """An app whose only worker is busy until the gate opens."""
    yield from _parked(Parked)


def _parked(handler: type[Parked]) -> Iterator[Rambla]:
    handler.gate.clear()
    handler.calls = Calls()
    with Rambla({"probe": {"handler": handler, "channels": {"orders": {}}}}) as app:
        first = app.publish("orders", PAYLOAD)
        (target,) = app._targets()
        while target.in_flight() != 1 or target.wakeup.idle:
            threading.Event().wait(0.001)
        yield app
        handler.gate.set()
        assert first.done() or first.result(timeout_s=TIMEOUT_S) is None


def test_a_drop_makes_few_calls() -> None:
    """A full mailbox of a tracker with a dead backend: the delivery is ended, and not planned before."""
    Parked.gate.clear()
    channel = {"max_pending": 1, "overflow": "drop_newest", "snapshot": False}
    with Rambla({"probe": {"handler": Parked, "channels": {"orders": channel}}}) as app:
        publish, calls = app.channel("orders").publish, Calls()
        for _ in range(9):
            publish(CAPTURED)
        with calls.counting():
            for _ in range(MANY):
                publish(CAPTURED)
        Parked.gate.set()
    assert calls.per_message(MANY) < 75


@pytest.mark.parametrize(
    ("payload", "most"),
    [pytest.param(PAYLOAD, 6.1, id="string"), pytest.param(CAPTURED, 9.1, id="captured")],
)
def test_a_publish_makes_few_calls(parked: Rambla, payload: Any, most: float) -> None:
    """publish and accept, the clock, the number, the append, and a length; the copy of a dict."""
    calls, publish = Calls(), parked.publish
    with calls.counting():
        for _ in range(MANY):
            publish("orders", payload)
    assert 5 <= calls.per_message(MANY) <= most, calls.found.most_common(12)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        pytest.param({"key": "k"}, 12.1, id="key"),
        pytest.param({"id": "1"}, 11.1, id="id"),
        pytest.param({"headers": {"trace": "00-1"}}, 14.1, id="headers"),
        pytest.param({"expires_s": 60.0}, 12.1, id="expires_s"),
        pytest.param({"priority": "high"}, 12.1, id="priority"),
    ],
)
def test_a_publish_with_an_option_makes_few_calls(
    parked: Rambla, options: dict[str, Any], most: float
) -> None:
    """The option is checked or found; no lock is taken, and no worker that is awake is woken."""
    calls, publish = Calls(), parked.publish
    publish("orders", PAYLOAD, **options)
    with calls.counting():
        for _ in range(MANY):
            publish("orders", PAYLOAD, **options)
    assert 5 <= calls.per_message(MANY) <= most, calls.found.most_common(20)


@pytest.mark.parametrize("options", [{"key": "k"}, {"expires_s": 60.0}, {"priority": "high"}], ids=str)
def test_a_bound_option_makes_hardly_more(parked: Rambla, options: dict[str, Any]) -> None:
    """It is checked once; what is left is a second length, of what has arrived."""
    calls, publish = Calls(), parked.channel("orders", **options).publish
    publish(PAYLOAD)
    with calls.counting():
        for _ in range(MANY):
            publish(PAYLOAD)
    assert 5 <= calls.per_message(MANY) <= 8.1, calls.found.most_common(20)


@pytest.mark.parametrize(("payload", "most"), [(PAYLOAD, 6.1), (CAPTURED, 9.1)], ids=["string", "captured"])
@pytest.mark.parametrize(
    "options",
    [{"retries": 3}, {"headers": {"table": "events"}}, {"callbacks": {"on_outcome": id}}],
    ids=lambda options: next(iter(options)),
)
def test_a_bound_option_makes_no_more_where_it_keeps_the_order(
    parked: Rambla, options: dict[str, Any], payload: Any, most: float
) -> None:
    """Options, callbacks and targets are merged once: the same calls as a channel without options makes."""
    found = []
    for bound in ({}, options):
        calls, publish = Calls(), parked.channel("orders", **bound).publish
        publish(payload)
        with calls.counting():
            for _ in range(MANY):
                publish(payload)
        found.append(calls.per_message(MANY))
    assert found[0] == found[1] <= most


@pytest.mark.parametrize(
    ("payload", "most"),
    [pytest.param(PAYLOAD, 0.1, id="string"), pytest.param(CAPTURED, 3.1, id="captured")],
)
def test_a_publish_of_many_makes_fewer(parked: Rambla, payload: Any, most: float) -> None:
    """What is the same for all of them is done once."""
    calls, payloads = Calls(), [payload] * MANY
    with calls.counting():
        parked.publish_many("orders", payloads)
    assert 0 < calls.per_message(MANY) <= most, calls.found.most_common(12)


def test_a_waiting_message_takes_few_allocations(parked: Rambla) -> None:
    """A delivery, its receipt, its number and its time; the places in the mailbox come by the dozen."""
    publish, receipts = parked.publish, [None] * MANY
    for _ in range(10):
        publish("orders", PAYLOAD)
    before = sys.getallocatedblocks()
    for at in range(MANY):
        receipts[at] = publish("orders", PAYLOAD)  # type: ignore[call-overload]
    grown = (sys.getallocatedblocks() - before) / MANY
    assert 3 <= grown <= 3.7


def test_a_worker_and_a_target_have_few_attributes() -> None:
    """CPython 3.11 looks up more than 29 in a dictionary each time: a twentieth of a message that comes alone."""
    with Rambla({"null": {"channels": {"orders": {}}}}) as app:
        app.publish("orders", PAYLOAD).result(timeout_s=TIMEOUT_S)
        (target,) = app._targets()
        assert until(lambda: bool(target.wakeup.idle))
        assert max(len(vars(target)), len(vars(target.wakeup.idle[0]))) <= 29


@pytest.mark.parametrize("services", [["one"], ["one", "two"]], ids=["one target", "two targets"])
def test_a_publish_leaves_the_garbage_collector_nothing_to_look_at(services: list[str]) -> None:
    """Deliveries, their receipt and its places are not tracked: a million that wait cost no collection."""
    with Rambla({name: {"handler": "null", "channels": {"orders": {}}} for name in services}) as app:
        app.publish("orders", PAYLOAD).result(timeout_s=TIMEOUT_S)
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            receipts = [app.publish("orders", PAYLOAD) for _ in range(MANY)]
            assert app.flush(TIMEOUT_S)
            grown = len(gc.get_objects()) - before
        finally:
            gc.enable()
        assert all(receipt.done() for receipt in receipts)
    assert grown < MANY / 4


def test_the_way_back_makes_almost_none(parked: Rambla) -> None:
    """Taken, begun and ended in batches: what is done for one message alone is done without a call."""
    for _ in range(MANY):
        parked.publish("orders", PAYLOAD)
    Parked.gate.set()
    assert parked.flush(TIMEOUT_S)
    assert 0 < Parked.calls.per_message(MANY) <= 0.2, Parked.calls.found.most_common(12)


class LooksAtIds(Parked):
    """Looks at the id of each message, counted as well."""

    gate = threading.Event()
    ids: ClassVar[list[str]] = []

    def handle_batch(self, messages: Sequence[LiveDelivery], state: State) -> list[None]:
        with self.calls.counting() if len(messages) > 1 else nullcontext():
            self.ids += [message.id for message in messages]
        return super().handle_batch(messages, state)


@pytest.fixture
def looking() -> Iterator[Rambla]:
    """An app whose handler looks at ids."""
    yield from _parked(LooksAtIds)


def test_ids_are_drawn_together_for_a_handler_that_looks_at_them(looking: Rambla) -> None:
    """One lock for a batch; the handler then makes the call of the property and no other."""
    for _ in range(MANY):
        looking.publish("orders", PAYLOAD)
    LooksAtIds.gate.set()
    assert looking.flush(TIMEOUT_S)
    assert LooksAtIds.calls.found["LiveDelivery.id"] == MANY
    assert LooksAtIds.calls.found["shared_or_new"] == 0
    assert len(set(LooksAtIds.ids)) == MANY + 1


def _delivery(options: Any) -> LiveDelivery:
    with Rambla({"null": {"channels": {"orders": {}}}}) as app:
        (target,) = app._targets()
    return LiveDelivery(b"x" * 256, options, target.policy, {}, None, 1.0, 0, target, None, 7)


@pytest.mark.parametrize(
    ("encode", "options", "most"),
    [
        pytest.param(lambda options: FrameEncoder().encode, AmqpOptions(routing_key="q"), 6.1, id="amqp"),
        pytest.param(
            lambda options: encoder_for(options, "orders", 1 << 29),
            RedisOptions(command="xadd", stream="s"),
            9.1,
            id="redis",
        ),
    ],
)
def test_encoding_for_the_wire_makes_few_calls(
    encode: Callable[[Any], Callable[[LiveDelivery], Any]], options: Any, most: float
) -> None:
    """What is the same for all messages of a channel is encoded once, and so are headers that they share."""
    pack, delivery, calls = encode(options), _delivery(options), Calls()
    pack(delivery)
    with calls.counting():
        for _ in range(MANY):
            pack(delivery)
    assert 1 <= calls.per_message(MANY) <= most, calls.found.most_common(12)

    delivery.headers = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-00", "tracestate": "a=1"}
    pack(delivery), pack(delivery)
    with_headers = Calls()
    with with_headers.counting():
        for _ in range(MANY):
            pack(delivery)
    more = with_headers.per_message(MANY) - calls.per_message(MANY)
    assert -2 <= more <= 5, with_headers.found.most_common(12)


@pytest.mark.parametrize("channels", ["orders", ["orders", "more"]], ids=["one", "two"])
@pytest.mark.parametrize("options", [{}, {"key": "k"}], ids=str)
def test_a_schema_costs_other_channels_nothing(channels: Any, options: dict[str, Any]) -> None:
    """A publish to channels without one makes the same calls, whether or not another channel has one."""
    found = []
    for schema in ({}, {"schema": "builtins:dict"}):
        calls = Calls()
        tables = {"orders": {}, "more": {}, "checked": schema}
        with Rambla({"null": {"channels": tables}}) as app:
            app.publish(channels, CAPTURED, **options).result(timeout_s=TIMEOUT_S)
            with calls.counting():
                for _ in range(MANY):
                    app.publish(channels, CAPTURED, **options)
            assert app.flush(TIMEOUT_S)
        assert not any("validat" in name for name in calls.found)
        found.append(calls.per_message(MANY))
    assert found[0] == pytest.approx(found[1], rel=0.2)
