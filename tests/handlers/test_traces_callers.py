"""Which callers' spans are remembered, and when the last span under one ends."""

from __future__ import annotations

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from traced import Spans, attributes

from rambla_py.telemetry.otel.callers import Callers


def caller(number: int) -> SpanContext:
    return SpanContext(1, number, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def test_a_caller_that_publishes_is_remembered_while_others_come() -> None:
    """The thousand that published last are; the number of spans under one that was forgotten begins again."""
    callers = Callers(1, lambda at: True)
    assert callers.admit(caller(1))[0]
    for number in range(2, 1_500):
        assert callers.admit(caller(number))[0]
        if number % 500 == 0:
            assert not callers.admit(caller(1))[0]
    assert not callers.admit(caller(1))[0]
    assert callers.admit(caller(2))[0]


def test_the_last_span_under_a_caller_of_another_process_waits_until_none_is_left_out() -> None:
    """Its end cannot be seen here: it is taken to be over once nothing was left out since the last look."""
    spans, callers = Spans(), Callers(1, lambda at: True)
    _, last = callers.admit(caller(1))
    assert last is not None
    span = spans.provider.get_tracer("shop").start_span("create orders")
    callers.hold(last, NonRecordingSpan(caller(1)), span, 0)
    callers.admit(caller(1))
    assert callers.run(0.0) is not None
    callers.admit(caller(1))
    assert callers.run(0.0) is not None
    assert spans.names() == []
    assert callers.run(0.0) is None
    assert attributes(spans.named("create orders")[0])["rambla.create.left_out"] == 2
