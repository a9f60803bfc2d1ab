"""Instrumentation of apps."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from opentelemetry.metrics import Meter, MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from rambla_py._internal.redaction import redact_url
from rambla_py.telemetry.otel.attributes import SCHEMA_URL, SCOPE
from rambla_py.telemetry.otel.callers import Callers
from rambla_py.telemetry.otel.meters import Measured, Meters
from rambla_py.telemetry.otel.publishing import Publishing
from rambla_py.telemetry.otel.sending import Sending
from rambla_py.telemetry.otel.targets import Targets

if TYPE_CHECKING:
    from rambla_py.telemetry.observer import Observer
    from rambla_py.telemetry.tracing import Tracing

__all__ = ["Instrumented", "instrument"]


class Runtime(Protocol):
    """The lifecycle of an app, as far as traces are concerned."""

    def trace(self, tracing: Tracing) -> Callable[[], None]: ...

    def observe(self, observer: Observer) -> Callable[[], None]: ...

    def accompany(self, companion: Any) -> Callable[[], None]: ...

    def wake_companion(self, companion: Any, at: float) -> bool: ...


class Instrumented(Measured, Protocol):
    """An app."""

    @property
    def _lifecycle(self) -> Runtime: ...

    @property
    def _error_text(self) -> Callable[[BaseException | None], str]: ...


_lock = threading.Lock()
_ends: weakref.WeakKeyDictionary[Instrumented, Callable[[], None]] = weakref.WeakKeyDictionary()


def instrument(
    app: Instrumented,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    create_spans: bool = True,
    max_spans: int = 1_000,
) -> Callable[[], None]:
    """Make spans and metrics of what an app publishes; return a function that ends it.

    In a sampled span, each delivery has a span ``create CHANNEL`` and, for each attempt, ``send
    DESTINATION``; one that ends without success has ``not delivered CHANNEL``. Its context goes with the
    message, in its headers. ``create_spans=False`` passes on the caller's own context instead;
    ``max_spans`` bounds the ``create`` spans under one caller's span. Metrics are the status of the app, and
    the calls of its handlers. The providers are the global ones
    unless given.

    Instrumenting an app a second time changes nothing. Thread-safe.
    """
    with _lock:
        end = _ends.get(app)
        if end is None:
            version = sys.modules["rambla_py"].__version__
            meter = get_meter(SCOPE, version, meter_provider, SCHEMA_URL)
            tracer = get_tracer(SCOPE, version, tracer_provider, SCHEMA_URL)
            end = _ends[app] = _Traces(app, tracer, meter, create_spans=create_spans, max_spans=max_spans).end
        return end


class _Traces:
    """The traces of one app, which live with it."""

    def __init__(
        self, app: Instrumented, tracer: Any, meter: Meter, *, create_spans: bool, max_spans: int
    ) -> None:
        lifecycle = app._lifecycle
        self._app = weakref.ref(app)
        targets = Targets()

        text = app._error_text

        def error_text(error: BaseException | None) -> str:
            return redact_url(text(error))

        self._sending = Sending(tracer, targets, error_text)
        self._callers = Callers(max_spans, lambda at: lifecycle.wake_companion(self, at))
        publishing = Publishing(
            tracer, targets, self._callers, self._sending, error_text, create_spans=create_spans
        )
        meters = Meters(self._app, meter, targets)
        self._stops = [
            lifecycle.accompany(self),
            lifecycle.observe(cast("Observer", self._sending)),
            lifecycle.observe(cast("Observer", meters)),
            meters.end,
            lifecycle.trace(publishing),
        ]

    def end(self) -> None:
        """Stop tracing."""
        app = self._app()
        with _lock:
            if app is not None:
                _ends.pop(app, None)
            stops, self._stops = self._stops, []
        for stop in reversed(stops):
            stop()
        if stops:
            self._callers.stopped()

    # -- with the app ---------------------------------------------------------------------------------

    def run(self, now: float) -> float | None:
        return self._callers.run(now)

    def after_fork(self) -> None:
        self._callers.after_fork()
        self._sending.after_fork()

    def stopped(self) -> None:
        self._callers.stopped()
