"""The cases of traces: what spans and headers cost each message, and beside two spans of the SDK alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, set_span_in_context

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch
from bench.cases.amqp import amqp_app, queue
from bench.cases.null import null_app
from bench.cases.redis import redis_app, redis_stream
from rambla_py.telemetry.otel import instrument

__all__ = ["TRACES", "TRACES_AMQP", "TRACES_REDIS"]

UNTRACED, NO_SPAN, UNSAMPLED, SAMPLED = "untraced", "traced, no span", "caller unsampled", "caller sampled"
BARE = "two bare SDK spans"
_BODY = "x" * 200
_PER_CALLER = 500
"""Messages under one caller's span, as in a large request."""

Opened = Callable[[Context, int], Any]


@contextmanager
def _null(context: Context, count: int) -> Iterator[tuple[rambla.Rambla, str]]:
    with null_app() as app:
        yield app, "demo"


@contextmanager
def _redis(context: Context, count: int) -> Iterator[tuple[rambla.Rambla, str]]:
    with redis_stream(context, count) as (_, name), redis_app(context, name) as app:
        yield app, "orders"


@contextmanager
def _amqp(context: Context, count: int) -> Iterator[tuple[rambla.Rambla, str]]:
    with queue(context, count) as name, amqp_app(context, name) as app:
        yield app, "orders"


def _contender(opened: Opened, kind: str, usual: int) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(usual) // _PER_CALLER * _PER_CALLER
        provider = TracerProvider(sampler=ALWAYS_OFF if kind == UNSAMPLED else None)
        tracer = provider.get_tracer("shop")
        with ExitStack() as stack:
            app, channel = stack.enter_context(opened(context, count + 1))
            if kind != UNTRACED:
                instrument(app, tracer_provider=provider)
            app.publish(channel, _BODY).result(timeout_s=30)
            publish, receipts = app.publish, []
            with stopwatch() as watch:
                for _ in range(count // _PER_CALLER):
                    with ExitStack() as span:
                        if kind in (UNSAMPLED, SAMPLED):
                            span.enter_context(tracer.start_as_current_span("caller"))
                        receipts += [publish(channel, _BODY) for _ in range(_PER_CALLER)]
                app.flush()
            assert all(receipt.done() for receipt in receipts)
            return rate(count, watch)

    return run


def _two_spans(context: Context) -> Figures:
    """Make spans with the kinds, parents and attributes of ``create`` and ``send``, which have 8 and 10."""
    count, tracer = context.count(50_000), TracerProvider().get_tracer("shop")
    create = {f"messaging.attribute.{number}": f"value {number}" for number in range(7)}
    send = {f"messaging.attribute.{number}": f"value {number}" for number in range(7)}
    with tracer.start_as_current_span("caller"), stopwatch() as watch:
        for number in range(count):
            message_id = f"{number:032x}"
            attributes: dict[str, Any] = {**create, "messaging.message.id": message_id}
            span = tracer.start_span("create demo", kind=SpanKind.PRODUCER, attributes=attributes)
            span.end()
            parent = set_span_in_context(span)
            attributes = {**send, "messaging.message.id": message_id, "attempt": 1, "batch_size": 1}
            tracer.start_span("send demo", context=parent, kind=SpanKind.CLIENT, attributes=attributes).end()
    return rate(count, watch)


def _contenders(opened: Opened, usual: int) -> dict[str, Callable[[Context], Figures]]:
    few = min(usual, 50_000)
    return {
        kind: _contender(opened, kind, few if kind == SAMPLED else usual)
        for kind in (UNTRACED, NO_SPAN, UNSAMPLED, SAMPLED)
    }


def _goals(no_span: float, unsampled: float) -> tuple[Goal, ...]:
    """Return goals of the processor time: rates of these say as much about what else the machine does."""
    return tuple(
        Goal(f"CPU of a message, {kind} / {UNTRACED}{bound}", kind, UNTRACED, figure="cpu_us", most=most)
        for kind, bound, most in (
            (NO_SPAN, f" (at most {no_span})", no_span),
            (UNSAMPLED, f" (at most {unsampled})", unsampled),
            (SAMPLED, "", None),
        )
    )


_CPU = Goal(f"CPU of a message, {SAMPLED} / {BARE} (at most 1.8)", SAMPLED, BARE, figure="cpu_us", most=1.8)

TRACES = Case(
    name="traces",
    title="traced publishes to a handler that does nothing",
    contenders={**_contenders(_null, 200_000), BARE: _two_spans},
    goals=(*_goals(1.33, 2.0), _CPU),
)
TRACES_REDIS = Case(
    name="traces_redis",
    title="traced publishes to Redis, XADD of 200 bytes",
    contenders=_contenders(_redis, 100_000),
    servers=("redis",),
    goals=_goals(1.05, 1.18),
)
TRACES_AMQP = Case(
    name="traces_amqp",
    title="traced publishes to RabbitMQ, 200 bytes, confirmed",
    contenders=_contenders(_amqp, 50_000),
    servers=("rabbitmq",),
    goals=_goals(1.05, 1.18),
)
