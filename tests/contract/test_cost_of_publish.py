"""What a message costs, counted in calls and allocations: figures that no busy machine can blur.

A change that makes one of them larger is felt in ``make bench``. Lower the bound when you made it smaller.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from small_apps import TIMEOUT_S

from rambla_py import Handler, Rambla
from rambla_py.delivery import Delivery
from rambla_py.handler import State
from rambla_py.handlers.amqp.frames import FrameEncoder
from rambla_py.handlers.amqp.settings import AmqpOptions
from rambla_py.handlers.redis.commands import RedisOptions, encoder_for

MANY = 400
PAYLOAD = {"id": 42}


class Calls:
    """Counts calls of Python and of C functions, per thread."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def __call__(self, frame: Any, event: str, what: Any) -> None:
        if event in ("call", "c_call"):
            self.found[frame.f_code.co_qualname if event == "call" else str(what)] += 1

    def per_message(self) -> float:
        return sum(self.found.values()) / MANY

    @contextmanager
    def counting(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)


class Parked(Handler):
    """Takes nothing until the gate is open; what it does then is counted."""

    gate = threading.Event()
    calls = Calls()

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """None."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[None]:
        self.gate.wait(TIMEOUT_S)
        sys.setprofile(self.calls if len(messages) > 1 else None)
        return [None] * len(messages)


@pytest.fixture
def parked() -> Iterator[Rambla]:
    """An app whose only worker is busy until the gate opens."""
    Parked.gate.clear()
    Parked.calls = Calls()
    with Rambla({"probe": {"handler": Parked, "channels": {"orders": {}}}}) as app:
        first = app.publish("orders", PAYLOAD)
        (target,) = app._targets()
        while target.in_flight() != 1 or target.roster.idle:
            threading.Event().wait(0.001)
        yield app
        Parked.gate.set()
        assert first.done() or first.result(timeout_s=TIMEOUT_S) is None


def test_a_publish_makes_few_calls(parked: Rambla) -> None:
    """publish and submit, the clock, the number, the append, and looks at two lengths."""
    calls, publish = Calls(), parked.publish
    with calls.counting():
        for _ in range(MANY):
            publish("orders", PAYLOAD)
    assert 5 <= calls.per_message() <= 6.1, calls.found.most_common(12)


def test_a_publish_of_many_makes_fewer(parked: Rambla) -> None:
    """What is the same for all of them is done once."""
    calls, payloads = Calls(), [PAYLOAD] * MANY
    with calls.counting():
        parked.publish_many("orders", payloads)
    assert 1 <= calls.per_message() <= 3.1, calls.found.most_common(12)


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


def test_the_way_back_makes_almost_none(parked: Rambla) -> None:
    """Taken, begun and ended in batches: what is done for one message alone is done without a call."""
    for _ in range(MANY):
        parked.publish("orders", PAYLOAD)
    Parked.gate.set()
    assert parked.flush(TIMEOUT_S)
    assert 0 < Parked.calls.per_message() <= 0.2, Parked.calls.found.most_common(12)


def _delivery(options: Any) -> Delivery:
    with Rambla({"null": {"channels": {"orders": {}}}}) as app:
        (target,) = app._targets()
    return Delivery(b"x" * 256, target, None, 7, 1.0, options, target.policy, {})


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
    encode: Callable[[Any], Callable[[Delivery], Any]], options: Any, most: float
) -> None:
    """What is the same for all messages of a channel is encoded once."""
    pack, delivery, calls = encode(options), _delivery(options), Calls()
    pack(delivery)
    with calls.counting():
        for _ in range(MANY):
            pack(delivery)
    assert 1 <= calls.per_message() <= most, calls.found.most_common(12)
