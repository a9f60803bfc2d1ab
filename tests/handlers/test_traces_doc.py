"""The example of the documentation of traces."""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry import trace
from small_apps import probe, running, table
from traced import Spans


def test_the_example_of_the_documentation_makes_spans() -> None:
    """It runs as it is, with the global provider that an application sets."""
    page = (Path(__file__).parents[2] / "docs" / "operate.md").read_text("utf-8")
    found = re.search(r"```python\n(?P<code>[^`]*telemetry\.otel[^`]*)```", page)
    assert found is not None
    spans = Spans()
    with running(table(probe(lambda message: None))) as app:
        trace.set_tracer_provider(spans.provider)
        names = {"app": app}
        exec(found["code"], names)
        spans.named("send orders")
        names["end"]()
    assert spans.names() == ["checkout", "create orders", "send orders"]
