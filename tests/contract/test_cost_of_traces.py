"""What traces add to a publish, counted in calls: figures that no busy machine can blur."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from counted_calls import Calls
from opentelemetry.trace import SpanKind
from small_apps import TIMEOUT_S, probe, running, table
from traced import Spans

from rambla_py import Rambla

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
    [pytest.param(None, 10.1, id="no span"), pytest.param(Spans.unsampled(), 10.1, id="unsampled")],
)
def test_a_traced_publish_makes_few_more(waiting: Rambla, spans: Spans | None, most: float) -> None:
    """The caller's context is looked at, three calls; its headers are bound once."""
    calls, publish = Calls(), waiting.publish
    with (spans or Spans()).of(waiting), nullcontext() if spans is None else spans.caller():
        for _ in range(3):
            publish("orders", PAYLOAD)
        with calls.counting():
            for _ in range(MANY):
                publish("orders", PAYLOAD)
    assert 5 <= calls.per_message(MANY) <= most, calls.found.most_common(20)


def test_a_span_makes_few_more_than_it_costs_itself(waiting: Rambla) -> None:
    """Beside those of the SDK: the place, the context in the headers, the options, the delivery."""
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
    assert 20 <= ours.per_message(MANY) - bare.per_message(MANY) <= 100, ours.found.most_common(30)
