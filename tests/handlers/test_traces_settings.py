"""Traces that the configuration asks for."""

from __future__ import annotations

import os
from typing import Any

import pytest
from small_apps import one, probe, running, table

from rambla_py import ConfigError
from rambla_py.config import load_config

if os.environ.get("CI") != "true":
    pytest.importorskip("opentelemetry")

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

CALLER = SpanContext(0x1234, 0x5678, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def headers_with(**telemetry: Any) -> dict[str, Any]:
    """Return the headers of a message that is published in a span."""
    config = table(probe(lambda message: dict(message.headers))) | {"rambla": {"telemetry": telemetry}}
    with running(config) as app, use_span(NonRecordingSpan(CALLER)):
        found: dict[str, Any] = one(app).result
    return found


def test_traces_are_off_unless_asked_for() -> None:
    """With ``traces = true`` the context of the caller goes with the message."""
    assert headers_with() == {}
    assert headers_with(traces=True)["traceparent"].split("-")[1] == f"{0x1234:032x}"
    assert (
        headers_with(traces=True, create_spans=False)["traceparent"] == f"00-{0x1234:032x}-{0x5678:016x}-01"
    )


def test_wrong_settings_have_their_path() -> None:
    """Like all others."""
    config = table(probe(lambda message: None)) | {"rambla": {"telemetry": {"max_spans": -1, "trace": True}}}
    with pytest.raises(ConfigError) as refused:
        load_config(config)
    assert [problem.path for problem in refused.value.problems] == [
        "rambla.telemetry.max_spans",
        "rambla.telemetry.trace",
    ]
