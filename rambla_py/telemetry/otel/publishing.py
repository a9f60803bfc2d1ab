"""Spans and headers of publishes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation import get_current_span

from rambla_py.telemetry.otel.callers import Caller, Callers
from rambla_py.telemetry.otel.propagation import (
    MALFORMED,
    Carriers,
    current_context,
    has_own_context,
)

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.telemetry.otel.attributes import TargetAttributes
    from rambla_py.telemetry.otel.sending import Sending
    from rambla_py.telemetry.otel.targets import Targets
    from rambla_py.telemetry.tracing import RequestTrace, TracedTarget

__all__ = ["Publishing"]

log = logging.getLogger("rambla_py.telemetry")

_NOTHING: Final[Mapping[str, str]] = {}

ErrorText = Callable[[BaseException | None], str]


class Publishing:
    """Traces the publishes of one app: the ``Tracing`` of its runtime.

    ``create_spans`` is False to add the caller's own context to messages, without spans of their own.
    """

    def __init__(
        self,
        tracer: Tracer,
        targets: Targets,
        callers: Callers,
        sending: Sending,
        error_text: ErrorText,
        *,
        create_spans: bool,
    ) -> None:
        self.tracer, self.targets, self.callers, self.error_text = tracer, targets, callers, error_text
        self.create_spans, self.carriers = create_spans, Carriers()
        self._sending, self.current = sending, current_context()
        self._latest: tuple[Context | None, Mapping[str, str] | None] = None, None

    def headers(self, context: Context) -> Mapping[str, str] | None:
        """Return the headers that a call in a context adds to all of its messages; None for a span each."""
        known, headers = self._latest
        if known is not context:
            headers = self._headers(context)
            self._latest = context, headers  # one tuple: threads replace it as a whole
        return headers

    def _headers(self, context: Context) -> Mapping[str, str] | None:
        if not context:
            return _NOTHING
        caller = get_current_span(context).get_span_context()
        if not caller.is_valid:
            return _NOTHING
        if caller.trace_flags.sampled and self.create_spans:
            return None
        return self.carriers.of(context)

    def begin(self) -> CallTrace | None:
        """Begin the trace of a call; None without a caller's span."""
        context = self.current()
        span = get_current_span(context)
        given = span.get_span_context()
        return CallTrace(self, context, span, given) if given.is_valid else None

    def caller(self, context: Context) -> CallerTrace:
        """Return the trace of the caller whose span a context has, if ``headers`` is None for it."""
        return CallerTrace(self, context)

    def failed(self, span: Span, error: BaseException) -> None:
        """Show the error of a call on a span."""
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, self.error_text(error)))

    def attempt(self, target: TracedTarget, delivery: Delivery[Any]) -> AbstractContextManager[Any]:
        """Return what a handler's call with one message is made in: its span is current."""
        return self._sending.attempt(target, delivery)

    def request(self, target: TracedTarget, deliveries: Sequence[Delivery[Any]]) -> RequestTrace | None:
        """Begin the span of a request that carries several messages; it links to each message's context."""
        return self._sending.request(target, deliveries)


class _Made(NamedTuple):
    """A ``create`` span; ``caller`` where it is the last one under it; ``shows_id``: it has the message's."""

    span: Span
    caller: Caller | None
    shows_id: bool


class CallTrace:
    """The ``create`` spans of one call, which began when this object was made."""

    def __init__(self, publishing: Publishing, context: Context, caller: Span, given: SpanContext) -> None:
        self._publishing, self._context, self._caller, self._given = publishing, context, caller, given
        self._traced = given.trace_flags.sampled and publishing.create_spans
        self._began_ns = time.time_ns()
        self._spans: list[_Made | None] = []

    def options(
        self, target: TracedTarget, given: Mapping[str, Any], message_id: str | None = None
    ) -> Mapping[str, Any]:
        """Return the options of one delivery with the headers of its trace."""
        own = given.get("headers")
        if not own and not target.headers:  # most messages
            return {**given, "headers": self._carrier(target, message_id)}
        own = own or _NOTHING
        if not isinstance(own, Mapping):  # refused later
            self._spans.append(None)
            return given
        found = has_own_context({**(target.headers or _NOTHING), **own})
        if found == MALFORMED:
            self._publishing.targets.malformed(target)
        elif found:
            self._spans.append(None)
            return given
        added = self._carrier(target, message_id)
        # Baggage is the user's, where it is given; the other fields belong together.
        baggage = {"baggage": own["baggage"]} if "baggage" in own else _NOTHING
        rest = own if "tracestate" not in own else {name: own[name] for name in own if name != "tracestate"}
        return {**given, "headers": {**rest, **added, **baggage}}

    def drafted(self, deliveries: Sequence[Delivery[Any]]) -> None:
        """Show the ids of the messages on their spans."""
        for made, delivery in zip(self._spans, deliveries, strict=True):
            if made is not None and not made.shows_id:
                made.span.set_attribute("messaging.message.id", delivery.id)

    def ended(self, error: BaseException | None) -> None:
        """End the spans of the call."""
        spans, self._spans = self._spans, []
        if not spans:
            return
        now = time.time_ns()
        for made in spans:
            if made is None:
                continue
            if error is not None:
                self._publishing.failed(made.span, error)
            if made.caller is None:
                made.span.end(now)
            else:
                self._publishing.callers.hold(made.caller, self._caller, made.span, now)

    def _carrier(self, target: TracedTarget, message_id: str | None) -> Mapping[str, str]:
        publishing = self._publishing
        may_make, last_of = publishing.callers.admit(_key(self._given)) if self._traced else (False, None)
        if not may_make:
            self._spans.append(None)
            return publishing.carriers.of(self._context)
        known = publishing.targets.of(target)
        span = publishing.tracer.start_span(
            known.create_name,
            context=self._context,
            kind=SpanKind.PRODUCER,
            attributes=known.create if message_id is None else known.created(message_id),
            start_time=self._began_ns,
        )
        self._spans.append(_Made(span, last_of, message_id is not None))
        return publishing.carriers.of_child(self._context, span)


class CallerTrace:
    """The span of a caller, for its messages that get a ``create`` span each. Thread-safe."""

    def __init__(self, publishing: Publishing, context: Context) -> None:
        self._publishing, self._context, self._span = publishing, context, get_current_span(context)
        self._key = _key(self._span.get_span_context())
        self._target: tuple[TracedTarget | None, TargetAttributes | None] = None, None

    def begin(
        self, target: TracedTarget, message_id: str
    ) -> tuple[Mapping[str, str], Span | None, Callable[[], None]]:
        """Begin the span of a message; return the headers of the message, the span, and what ends it."""
        publishing, context, began_ns = self._publishing, self._context, time.time_ns()
        may_make, last_of = publishing.callers.admit(self._key)
        if not may_make:
            return publishing.carriers.of(context), None, _do_nothing
        latest, known = self._target
        if latest is not target or known is None:
            known = publishing.targets.of(target)
            self._target = target, known  # one tuple: threads replace it as a whole
        span = publishing.tracer.start_span(
            known.create_name,
            context=context,
            kind=SpanKind.PRODUCER,
            attributes={**known.create, "messaging.message.id": message_id},
            start_time=began_ns,
        )
        headers = publishing.carriers.of_child(context, span)
        return headers, span, span.end if last_of is None else lambda: self._hold(last_of, span)

    def failed(self, span: Any, error: BaseException) -> None:
        """Show the error of a call on the span of its message, before it ends."""
        if span is not None:
            self._publishing.failed(span, error)

    def _hold(self, caller: Caller, span: Span) -> None:
        self._publishing.callers.hold(caller, self._span, span, time.time_ns())


def _key(caller: SpanContext) -> tuple[int, int]:
    return caller.trace_id, caller.span_id


def _do_nothing() -> None:
    """End nothing: the message has no span."""
