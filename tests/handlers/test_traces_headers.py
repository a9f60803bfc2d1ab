"""Headers of traces: by whichever propagator is the global one, and whose context they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from small_apps import TIMEOUT_S, one, probe, running, table
from traced import Spans, is_child, traceparent

from rambla_py.telemetry.otel.propagation import parent_of


def echo(message: Any) -> Any:
    return dict(message.headers)


class Short(TextMapPropagator):
    """Writes a header of its own: the ids of the trace and the span."""

    fields = {"x-trace"}

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        span = get_current_span(context).get_span_context()
        carrier["x-trace"] = f"{span.trace_id:x}-{span.span_id:x}"

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        ids = [int(part, 16) for part in carrier["x-trace"].split("-")]
        span = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        return set_span_in_context(NonRecordingSpan(span), context)


@pytest.fixture(params=[[Short()], [TraceContextTextMapPropagator(), Short()]], ids=["instead", "beside"])
def propagator(request: pytest.FixtureRequest) -> Iterator[None]:
    """Another global propagator, alone and beside that of W3C."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator(request.param))
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("propagator")
def test_the_global_propagator_writes_the_context_of_the_create_span() -> None:
    """The attempt finds it by the same propagator."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app):
        with spans.caller():
            found = one(app).result
        (create,), (send,) = spans.named("create orders"), spans.named("send orders")
    assert found["x-trace"] == f"{create.context.trace_id:x}-{create.context.span_id:x}"
    assert is_child(send, create)


@pytest.mark.parametrize("bound", [False, True])
def test_each_message_has_the_context_of_its_own_caller(bound: bool) -> None:
    """Also where several follow each other under one, on the fast path, and in a channel with headers bound."""
    spans = Spans.unsampled()
    with running(table(probe(echo))) as app, spans.of(app):
        publish = (
            app.channel("orders", retries=3).publish
            if bound
            else lambda message: app.publish("orders", message)
        )
        with spans.caller() as first:
            sent = [publish(number).result(timeout_s=TIMEOUT_S) for number in range(3)]
            with spans.caller() as second:
                inner = [publish(number).result(timeout_s=TIMEOUT_S) for number in range(3)]
            sent.append(publish(3).result(timeout_s=TIMEOUT_S))
        without = publish(4).result(timeout_s=TIMEOUT_S)
    assert sent == [{"traceparent": traceparent(first)}] * 4
    assert inner == [{"traceparent": traceparent(second)}] * 3
    assert without == {}


def test_the_state_of_another_trace_is_not_kept() -> None:
    """``tracestate`` belongs to a ``traceparent``: one of a malformed context goes with it."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app), spans.caller():
        own = {"traceparent": "garbage", "tracestate": "shop=1", "a": "1"}
        assert one(app, headers=own).result.keys() == {"traceparent", "a"}
        assert one(app, headers={"tracestate": "shop=1"}).result.keys() == {"traceparent"}


class Marks(Sampler):
    """Samples all, and writes the first word of a span's name into its state."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *more: Any, **named: Any) -> Any:
        """Sample."""
        return SamplingResult(Decision.RECORD_AND_SAMPLE, None, TraceState([("span", name.split()[0])]))

    def get_description(self) -> str:
        """Return its name."""
        return "marks"


def test_a_message_has_the_state_that_the_sampler_gives_its_span() -> None:
    """It may be another one than the caller's."""
    spans = Spans(Marks())
    with running(table(probe(echo))) as app, spans.of(app), spans.caller():
        assert one(app).result["tracestate"] == "span=create"


def test_contexts_that_messages_share_are_read_once_and_others_apart() -> None:
    """Whatever other headers there are."""
    one_context = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
    plain, with_state = parent_of(one_context), parent_of({**one_context, "tracestate": "a=1"})
    assert isinstance(plain, SpanContext)
    assert isinstance(with_state, SpanContext)
    assert (dict(plain.trace_state), dict(with_state.trace_state)) == ({}, {"a": "1"})
    assert parent_of({**one_context, "tracestate": ["a=1"]}) == plain
    for malformed in (["x"], 7, True):
        assert parent_of({"traceparent": malformed}) == "malformed"
