"""Metrics for OpenTelemetry: what is collected is what the app counted."""

from __future__ import annotations

from typing import Any

import traced  # noqa: F401 - skips where the SDK is missing
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from small_apps import flaky, one, probe, running, table

from rambla_py import PermanentError, Rambla
from rambla_py.telemetry.otel import instrument

WHERE = {"rambla.service": "probe", "rambla.channel": "orders"}


def collected(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the data points by name."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    assert {scope.scope.name for scope in scopes} == {"rambla_py"}
    return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


def test_metrics_are_the_accounts_of_the_app() -> None:
    """Counters and gauges, by target; the calls of the handler, failed ones too."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    answer = flaky(1, ValueError("not yet"))

    def handle(message: Any) -> Any:
        if message.payload == "bad":
            raise PermanentError("no")
        return answer(message)

    with running(table(probe(handle))) as app:
        end = instrument(app, meter_provider=provider)
        assert [one(app, payload).status for payload in ("good", "bad")] == ["ok", "fatal"]
        found = collected(reader)
        assert [(point.value, dict(point.attributes)) for point in found["rambla.accepted"]] == [(2, WHERE)]
        outcomes = {point.attributes["rambla.status"]: point.value for point in found["rambla.outcomes"]}
        assert outcomes == app.status()["probe.orders"].statuses
        assert found["rambla.queued_limit"][0].value == app.status()["probe.orders"].max_pending
        calls = {
            point.attributes.get("error.type"): point.count
            for point in found["messaging.client.operation.duration"]
        }
        assert calls == {None: 1, "ValueError": 1, "PermanentError": 1}
        assert sum(point.value for point in found["messaging.client.sent.messages"]) == 3
        end()
        one(app, "good")
        after = collected(reader)
        assert "rambla.accepted" not in after
        assert sum(point.value for point in after["messaging.client.sent.messages"]) == 3


def test_a_call_of_the_handler_is_one_record_for_all_of_its_messages() -> None:
    """``sent.messages`` counts the messages, ``operation.duration`` the calls."""
    reader = InMemoryMetricReader()
    handler = probe(handle_batch=lambda self, messages, state: [None] * len(messages))
    with running(table(handler, batch_size=5, batch_timeout_s=60.0)) as app:
        end = instrument(app, meter_provider=MeterProvider([reader]))
        app.publish_many("orders", range(5)).result(timeout_s=8)
        found = collected(reader)
        end()
    (sent,), (took,) = found["messaging.client.sent.messages"], found["messaging.client.operation.duration"]
    assert (sent.value, took.count) == (5, 1)


def test_an_app_that_is_not_started_or_gone_has_no_observations() -> None:
    """Collecting never fails."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    app = Rambla(table(probe(flaky(0))))
    instrument(app, meter_provider=provider)
    assert collected(reader) == {}
    del app
    assert collected(reader) == {}
