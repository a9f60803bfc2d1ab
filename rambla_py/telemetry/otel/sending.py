"""Spans of attempts, and of deliveries that end without success."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from rambla_py.errors import DeliveryError
from rambla_py.telemetry.otel.attributes import epoch_ns, result_attributes
from rambla_py.telemetry.otel.propagation import carrier_of, context_of, parent_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery, LiveDelivery
    from rambla_py.telemetry.observer import ObservedTarget
    from rambla_py.telemetry.otel.attributes import TargetAttributes
    from rambla_py.telemetry.otel.targets import Targets

__all__ = ["Sending"]


class RequestSpan:
    """The span of one request that carries several messages."""

    def __init__(self, span: Span, fail: Callable[[Span, BaseException], None]) -> None:
        self._span, self._fail = span, fail
        self.headers = carrier_of(set_span_in_context(span, Context()))

    def ended(self, error: BaseException | None, result: Any = None) -> None:
        """End the span."""
        if error is not None:
            self._fail(self._span, error)
        else:
            self._span.set_attributes(result_attributes(result))
        self._span.end()


_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple})

ErrorText = Callable[[BaseException | None], str]


class Sending:
    """An observer that makes spans of deliveries whose headers have a sampled context.

    Spans are made after the fact, except around ``handle_publish``, where they are live.
    """

    def __init__(self, tracer: Tracer, targets: Targets, error_text: ErrorText) -> None:
        self._tracer, self._targets, self._error_text = tracer, targets, error_text
        self._live: dict[Delivery[Any], Span] = {}

    def after_fork(self) -> None:
        """Leave the spans to the parent process."""
        self._live.clear()

    @contextmanager
    def attempt(self, target: ObservedTarget, delivery: Delivery[Any]) -> Iterator[None]:
        """Make the span of an attempt current while the handler is called."""
        parent = self._parent(target, delivery)
        if parent is None or not parent.trace_flags.sampled:
            yield
            return
        span = self._start(self._targets.of(target), delivery, parent, time.time_ns(), 1)
        self._live[delivery] = span
        token = attach(set_span_in_context(span, context_of(delivery.headers, parent)))
        try:
            yield
        finally:
            detach(token)

    def request(self, target: ObservedTarget, deliveries: Sequence[Delivery[Any]]) -> RequestSpan | None:
        """Begin the span of a request that carries several messages; None if none of them is sampled.

        It links to the context of each message, and is the child of one that all of them have.
        """
        found = [parent_of(delivery.headers) for delivery in deliveries]
        contexts = [one for one in found if isinstance(one, SpanContext)]
        different = {(one.trace_id, one.span_id): one for one in contexts}
        if not any(one.trace_flags.sampled for one in contexts):
            return None
        is_common = len(different) == 1 and len(contexts) == len(deliveries)
        known, size = self._targets.of(target), len(deliveries)
        span = self._tracer.start_span(
            known.send_name,
            context=_context(contexts[0]) if is_common else Context(),
            kind=SpanKind.CLIENT,
            attributes={**known.send, "messaging.batch.message_count": size, "rambla.batch_size": size},
            links=[Link(one) for one in different.values()],
        )
        return RequestSpan(span, self._fail)

    # -- observer -------------------------------------------------------------------------------------

    def attempted(
        self,
        target: ObservedTarget,
        deliveries: Sequence[LiveDelivery[Any]],
        started_at: float,
        ended_at: float,
        error: BaseException | None,
    ) -> None:
        """Make the spans of attempts that ended."""
        traced = [delivery for delivery in deliveries if delivery.headers]
        if not traced:
            return
        started_ns, ended_ns = epoch_ns(started_at), epoch_ns(ended_at)
        headers: Mapping[str, Any] | None = None
        parent: SpanContext | None = None
        is_sampled, live, size = False, self._live, len(deliveries)
        known: TargetAttributes | None = None
        for delivery in traced:
            span = live.pop(delivery, None) if live else None
            if span is None:
                if parent is None or delivery.headers is not headers:  # messages of one caller may share them
                    headers, parent = delivery.headers, self._parent(target, delivery)
                    is_sampled = parent is not None and parent.trace_flags.sampled
                if parent is None or not is_sampled:
                    continue
                if known is None:
                    known = self._targets.of(target)
                span = self._start(known, delivery, parent, started_ns, size)
            if error is not None:
                self._fail(span, error)
            elif type(delivery.result) not in _PLAIN:
                span.set_attributes(result_attributes(delivery.result))
            span.end(ended_ns)

    def ended(self, target: ObservedTarget, deliveries: Sequence[LiveDelivery], status: str) -> None:
        """Make the spans of deliveries that ended without success."""
        if status == "ok":
            return
        for delivery in deliveries:
            parent = parent_of(delivery.headers) if delivery.headers else None
            if not isinstance(parent, SpanContext) or not parent.trace_flags.sampled:
                continue
            attributes = {
                **self._targets.of(target).common,
                "messaging.message.id": delivery.id,
                "rambla.status": status,
            }
            span = self._tracer.start_span(
                f"not delivered {target.channel}",
                context=_context(parent),
                attributes=attributes,
                start_time=epoch_ns(delivery.accepted_at),
            )
            if delivery.error is not None:
                self._fail(span, delivery.error)
            else:
                span.set_status(Status(StatusCode.ERROR))
            span.end(epoch_ns(delivery.ended_at))

    # -- details --------------------------------------------------------------------------------------

    def _parent(self, target: ObservedTarget, delivery: Delivery[Any]) -> SpanContext | None:
        """Return the context of a message, sampled or not; counts one that cannot be read."""
        found = parent_of(delivery.headers) if delivery.headers else None
        if isinstance(found, SpanContext):
            return found
        if found is not None and delivery.attempts == 1:
            self._targets.malformed(target)
        return None

    def _start(
        self, known: TargetAttributes, delivery: Delivery[Any], parent: SpanContext, start_ns: int, size: int
    ) -> Span:
        attributes = {
            **known.send,
            "messaging.message.id": delivery.id,
            "rambla.attempt": delivery.attempts,
            "rambla.batch_size": size,
        }
        return self._tracer.start_span(
            known.send_name,
            context=_context(parent),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=start_ns,
        )

    def _fail(self, span: Span, error: BaseException) -> None:
        answered = result_attributes(error) if isinstance(error, DeliveryError) else {}
        span.set_attributes({"error.type": type(error).__name__, **answered})
        span.set_status(Status(StatusCode.ERROR, self._error_text(error)))


def _context(parent: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), Context())
