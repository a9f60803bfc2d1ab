"""Traces and metrics of apps for OpenTelemetry (extra ``otel``)."""

from rambla_py.telemetry.otel.instrumentation import instrument
from rambla_py.telemetry.otel.instrumentor import RamblaInstrumentor

__all__ = ["RamblaInstrumentor", "instrument"]
