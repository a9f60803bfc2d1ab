"""Spans of messages that are published one by one: their places in the mailbox, and what samplers see."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from small_apps import TIMEOUT_S, one, probe, running, table
from traced import Spans, attributes

from rambla_py import OptionError


def echo(message: Any) -> Any:
    return dict(message.headers)


def test_a_call_that_raises_takes_no_place_in_the_mailbox() -> None:
    """One is reserved before the span begins."""
    spans = Spans()
    with (
        running(table(probe(echo), max_pending=1, overflow="raise")) as app,
        spans.of(app),
        spans.caller(),
    ):
        for _ in range(2):
            with pytest.raises(OptionError):
                app.publish("orders", 1, retries="many")
        assert "traceparent" in one(app).result


class Seen(Sampler):
    """Samples all, and keeps the attributes that it is given, by the name of the span."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def should_sample(self, *given: Any, **named: Any) -> SamplingResult:
        """Sample."""
        _, _, name, _, attributes, *_ = given
        self.attributes[name] = attributes
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        """Return its name."""
        return "seen"


@pytest.mark.parametrize("options", [{}, {"id": "order-1"}], ids=["drawn", "given"])
def test_a_sampler_sees_the_attributes_of_a_message(options: dict[str, Any]) -> None:
    """Its id too where the library draws it; one that is given is on the span once it was checked."""
    sampler = Seen()
    spans = Spans(sampler)
    with running(table(probe(lambda message: message.id))) as app, spans.of(app), spans.caller():
        sent = app.publish("orders", 1, **options).result(timeout_s=TIMEOUT_S)
    seen = sampler.attributes["create orders"]
    assert (seen["messaging.operation.name"], seen["rambla.channel"]) == ("create", "orders")
    assert seen.get("messaging.message.id") == (None if options else sent)
    (create,), (send,) = spans.named("create orders"), spans.named("send orders")
    assert attributes(create)["messaging.message.id"] == attributes(send)["messaging.message.id"] == sent
