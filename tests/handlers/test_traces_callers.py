"""Which callers' spans are remembered, and when the last span under one ends."""

from __future__ import annotations

from opentelemetry.context import get_current
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from traced import Spans, attributes

from rambla_py.telemetry.otel.callers import Callers
from rambla_py.telemetry.otel.propagation import current_context


def caller(number: int) -> tuple[int, int]:
    """Return the ids of a trace and of a span of it."""
    return 1, number


def span_of(number: int) -> NonRecordingSpan:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return NonRecordingSpan(SpanContext(*caller(number), is_remote=True, trace_flags=sampled))


class OtherRuntime(ContextVarsRuntimeContext):
    """What another package may keep the context in."""


def test_the_current_context_is_read_in_one_step_where_that_is_known_to_work() -> None:
    """A private part of OpenTelemetry: where it is not as we know it, the public function is used."""
    spans, read = Spans(), current_context()
    assert read is not get_current
    assert read() is get_current()
    with spans.caller():
        assert read() is get_current()
    assert current_context(OtherRuntime()) is get_current


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
    callers.hold(last, span_of(1), span, 0)
    callers.admit(caller(1))
    assert callers.run(0.0) is not None
    callers.admit(caller(1))
    assert callers.run(0.0) is not None
    assert spans.names() == []
    assert callers.run(0.0) is None
    assert attributes(spans.named("create orders")[0])["rambla.create.left_out"] == 2
