"""Spans of a traced app, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

if os.environ.get("CI") != "true":
    pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import Span
from small_apps import until

from rambla_py import Rambla
from rambla_py.telemetry.otel import instrument


class Spans:
    """What a tracer provider of its own exported."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.provider = TracerProvider(sampler=sampler)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @classmethod
    def unsampled(cls) -> Spans:
        """Return spans none of which is sampled."""
        return cls(ALWAYS_OFF)

    @contextmanager
    def caller(self, name: str = "caller") -> Iterator[Span]:
        """Run in a span of the application's."""
        with self.provider.get_tracer("shop").start_as_current_span(name) as span:
            yield span

    @contextmanager
    def of(self, app: Rambla, **options: Any) -> Iterator[Rambla]:
        """Trace an app."""
        end = instrument(app, tracer_provider=self.provider, **options)
        try:
            yield app
        finally:
            end()

    def all(self) -> list[ReadableSpan]:
        """Return what was exported, by the start of each."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def clear(self) -> None:
        """Forget what was exported."""
        self._exporter.clear()

    def named(self, name: str, number: int = 1) -> list[ReadableSpan]:
        """Wait for so many spans of this name, and return them; fails if there are others."""
        until(lambda: len(self._named(name)) >= number)
        found = self._named(name)
        assert len(found) == number, (
            f"{len(found)} spans {name!r}, not {number}: {[one.name for one in self.all()]}"
        )
        return found

    def names(self) -> list[str]:
        """Return the names of the spans, in alphabetical order."""
        return sorted(span.name for span in self.all())

    def _named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]


def traceparent(span: ReadableSpan | Span) -> str:
    """Return the header of a span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def is_child(span: ReadableSpan, parent: ReadableSpan | Span) -> bool:
    """Return whether a span is the child of another."""
    above, own = parent.get_span_context(), span.get_span_context()
    return span.parent is not None and (span.parent.span_id, own.trace_id) == (above.span_id, above.trace_id)


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of a span."""
    return span.attributes or {}
