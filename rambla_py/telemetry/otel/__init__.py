"""Traces and metrics of apps for OpenTelemetry (extra ``otel``)."""

from rambla_py.telemetry.otel.instrumentation import instrument

__all__ = ["instrument"]
