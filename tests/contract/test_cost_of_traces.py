"""What traces add to a publish, counted in calls: figures that no busy machine can blur."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import pytest
from counted_calls import Calls
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind
from small_apps import TIMEOUT_S, probe, running, table
from traced import Spans

from rambla_py import Rambla
from rambla_py.delivery import LiveDelivery
from rambla_py.handler import State
from rambla_py.telemetry.otel.sending import Sending
from rambla_py.telemetry.otel.targets import Targets

MANY = 400
PAYLOAD = "x" * 20


@pytest.fixture
def waiting() -> Iterator[Rambla]:
    """An app whose only worker is busy until the test has ended."""
    gate, begun = threading.Event(), threading.Event()

    def hold(message: object) -> None:
        begun.set()
        gate.wait(TIMEOUT_S)

    with running(table(probe(hold)), gate) as app:
        app.publish("orders", PAYLOAD)
        assert begun.wait(TIMEOUT_S)
        yield app


@pytest.mark.parametrize(
    ("spans", "most"),
    [pytest.param(None, 8.1, id="no span"), pytest.param(Spans.unsampled(), 8.1, id="unsampled")],
)
def test_a_traced_publish_makes_few_more(waiting: Rambla, spans: Spans | None, most: float) -> None:
    """The caller's context is looked at, one call; its headers are bound once."""
    calls, publish = Calls(), waiting.publish
    with (spans or Spans()).of(waiting), nullcontext() if spans is None else spans.caller():
        for _ in range(3):
            publish("orders", PAYLOAD)
        with calls.counting():
            for _ in range(MANY):
                publish("orders", PAYLOAD)
    assert 5 <= calls.per_message(MANY) <= most, calls.found.most_common(20)


def test_a_span_makes_few_more_than_it_costs_itself(waiting: Rambla) -> None:
    """Beside those of the SDK: the count of its caller, the context in the headers, the delivery."""
    spans, publish = Spans(), waiting.publish
    tracer, ours, bare = spans.provider.get_tracer("shop"), Calls(), Calls()
    given = {f"attribute.{number}": "value" for number in range(8)}
    with spans.of(waiting), spans.caller():
        publish("orders", PAYLOAD)
        with ours.counting():
            for _ in range(MANY):
                publish("orders", PAYLOAD)
        with bare.counting():
            for _ in range(MANY):
                tracer.start_span("create orders", kind=SpanKind.PRODUCER, attributes=given).end()
    assert 10 <= ours.per_message(MANY) - bare.per_message(MANY) <= 24, ours.found.most_common(30)


@pytest.mark.parametrize(("sampler", "most"), [(None, 19.1), (ALWAYS_OFF, 0.1)], ids=["sampled", "unsampled"])
def test_the_spans_of_a_batch_make_few_calls(sampler: Sampler | None, most: float) -> None:
    """In the worker, beside those of the SDK: the context of each message, and its attributes."""
    spans, ours, bare = Spans(sampler), Calls(), Calls()
    seen: list[LiveDelivery] = []
    tracer = spans.provider.get_tracer("shop")
    sending = Sending(tracer, Targets(), str)

    def keep(messages: Sequence[LiveDelivery], state: State) -> list[None]:
        seen.extend(messages)
        return [None] * len(messages)

    with running(table(probe(handle_batch=lambda self, *given: keep(*given)))) as app:
        with spans.of(app), spans.caller():
            app.publish_many("orders", [PAYLOAD] * MANY).result(TIMEOUT_S)
        (target,) = app._targets()
        now = time.monotonic()
        sending.attempted(target.config, seen, now, now, None)
        with ours.counting():
            sending.attempted(target.config, seen, now, now, None)
    given = {f"attribute.{number}": "value" for number in range(10)}
    with bare.counting():
        for _ in range(MANY if sampler is None else 0):
            tracer.start_span("send orders", kind=SpanKind.CLIENT, attributes=given, start_time=1).end(2)
    assert len(seen) == MANY
    assert 0 < ours.per_message(MANY) - bare.per_message(MANY) <= most, ours.found.most_common(30)
