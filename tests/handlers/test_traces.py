"""Traces of publishes, attempts and ends, with a provider that keeps spans in memory."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from forks import in_child
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from small_apps import TIMEOUT_S, flaky, one, probe, running, service, table
from traced import Spans, attributes, is_child, traceparent

from rambla_py import STOP, ConnectionLostError, Handler, MailboxFullError, Message, OptionError, Rambla
from rambla_py.errors import PermanentError, UnknownOutcomeError
from rambla_py.telemetry.otel import RamblaInstrumentor, instrument

OWN = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


def echo(message: Any) -> Any:
    return dict(message.headers)


def results(app: Rambla, *payloads: Any, **options: Any) -> Any:
    return app.publish_many("orders", payloads, **options).result(timeout_s=TIMEOUT_S)


# -- headers and create spans -------------------------------------------------------------------------


def test_a_message_has_a_create_span_under_the_callers_and_a_send_span_under_that() -> None:
    """The context of the create span goes with the message."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app):
        with spans.caller() as caller:
            outcome = one(app, id="m1")
        (create,), (send,) = spans.named("create orders"), spans.named("send orders")
    assert outcome.result == {"traceparent": traceparent(create)}
    assert is_child(create, caller)
    assert is_child(send, create)
    assert (create.kind, send.kind) == (SpanKind.PRODUCER, SpanKind.CLIENT)
    common = {
        "messaging.system": "rambla", "messaging.destination.name": "orders", "messaging.message.id": "m1",
        "rambla.service": "probe", "rambla.channel": "orders", "rambla.handler": "Probe",
    }  # fmt: skip
    operation = ("messaging.operation.name", "messaging.operation.type")
    assert attributes(create) == {**common, **dict.fromkeys(operation, "create")}
    assert attributes(send) == {
        **common, **dict.fromkeys(operation, "send"), "rambla.attempt": 1, "rambla.batch_size": 1,
    }  # fmt: skip
    assert create.start_time <= send.start_time <= send.end_time
    assert send.status.status_code is StatusCode.UNSET


def test_without_a_callers_span_nothing_is_added() -> None:
    """No header, no span."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app):
        assert one(app).result == {}
        assert one(app, headers={"a": "1"}).result == {"a": "1"}
        assert results(app, 1, 2) == [{}, {}]
    assert spans.names() == []


@pytest.mark.parametrize("create_spans", [True, False])
def test_a_caller_that_is_not_sampled_is_passed_on_without_spans(create_spans: bool) -> None:
    """Its own context goes with every message, on the fast path and on the slow one."""
    spans = Spans.unsampled()
    with running(table(probe(echo))) as app, spans.of(app, create_spans=create_spans):
        with spans.caller() as caller:
            sent = {"traceparent": traceparent(caller)}
            assert one(app).result == sent
            assert one(app, retries=2).result == sent
            assert app.channel("orders", retries=3).publish(1).result(timeout_s=TIMEOUT_S) == sent
            assert one(app, headers={"a": "1"}).result == {"a": "1", **sent}
            assert one(app, Message("x", headers={"a": "1"})).result == {"a": "1", **sent}
            assert results(app, 1, 2) == [sent, sent]
        assert one(app).result == {}
    assert spans.names() == []


def test_without_create_spans_the_callers_context_is_passed_on() -> None:
    """The attempts are children of the caller's span."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app, create_spans=False), spans.caller() as caller:
        assert one(app).result == {"traceparent": traceparent(caller)}
        (send,) = spans.named("send orders")
    assert is_child(send, caller)
    assert spans.names() == ["caller", "send orders"]


@pytest.mark.parametrize("is_async", [False, True])
def test_publish_many_makes_a_span_for_each_message(is_async: bool) -> None:
    """So does publish_many_async."""

    async def many(app: Rambla) -> Any:
        return await (await app.publish_many_async("orders", [1, 2, 3]))

    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app):
        with spans.caller():
            sent = asyncio.run(many(app)) if is_async else results(app, 1, 2, 3)
        creates = spans.named("create orders", 3)
        assert {one["traceparent"] for one in sent} == {traceparent(create) for create in creates}
        assert len({attributes(create)["messaging.message.id"] for create in creates}) == 3
        assert len({create.start_time for create in creates}) == 1  # of the call


def test_a_fan_out_makes_a_span_for_each_delivery() -> None:
    """Each target's message has the context of its own span."""
    spans = Spans()
    config = {"one": service(probe(echo), orders={}), "two": service(probe(echo), orders={})}
    with running(config) as app, spans.of(app):
        with spans.caller():
            first, second = app.publish("orders", "x").result(timeout_s=TIMEOUT_S)
        creates = {attributes(create)["rambla.service"]: create for create in spans.named("create orders", 2)}
    assert first == {"traceparent": traceparent(creates["one"])}
    assert second == {"traceparent": traceparent(creates["two"])}


def test_a_context_that_the_user_gives_is_kept_and_is_the_parent() -> None:
    """There is no create span: the message has a context already; no caller is needed."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app):
        with spans.caller():
            assert one(app, headers={"traceparent": OWN}).result == {"traceparent": OWN}
        assert one(app, headers={"traceparent": OWN}).result == {"traceparent": OWN}
        sends = spans.named("send orders", 2)
    assert {(send.context.trace_id, send.parent.span_id) for send in sends} == {
        (int("1" * 32, 16), int("2" * 16, 16))
    }
    assert spans.names() == ["caller", "send orders", "send orders"]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "garbage",
        OWN + "-more",
        OWN.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + OWN[35:],
        7,
        OWN.upper()[:-2] + "zz",
    ],
)
def test_a_malformed_context_is_ignored_and_counted(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In a caller's span it is replaced; without one it stays what it is. One warning a target."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app):
        with spans.caller():
            assert one(app, headers={"traceparent": bad}).result != {"traceparent": bad}
        spans.named("create orders")
        assert one(app, headers={"traceparent": bad}).result == {"traceparent": bad}
    assert spans.names() == ["caller", "create orders", "send orders"]
    assert [record.message for record in caplog.records if "malformed" in record.message] == [
        "probe.orders: the header traceparent of a message is malformed and was ignored; further ones are counted only"
    ]


def test_a_call_that_raises_ends_its_span_with_the_error() -> None:
    """A refused option, and a mailbox without room."""
    spans, gate = Spans(), threading.Event()
    config = table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=1, overflow="raise")
    with running(config, gate) as app, spans.of(app), spans.caller():
        with pytest.raises(OptionError):
            app.publish("orders", 1, retries="many")
        with pytest.raises(MailboxFullError):
            app.publish_many("orders", [1])
            app.publish_many("orders", [2])
            app.publish_many("orders", [3])
        failed = [span for span in spans.all() if span.status.status_code is StatusCode.ERROR]
    assert [attributes(span)["error.type"] for span in failed] == ["OptionError", "MailboxFullError"]


def test_a_create_span_ends_with_acceptance() -> None:
    """It began before there was room, and waiting for room shows in it."""
    spans, gate, ended_ns = Spans(), threading.Event(), []

    def hold(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        ended_ns.append(time.time_ns())

    class Opens(SpanProcessor):
        """Lets the handler end once the span of the call has begun."""

        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            """Open the gate."""
            if span.name == "create orders":
                gate.set()

    with running(table(probe(hold), max_pending=1, batch_size=1), gate) as app, spans.of(app):
        app.publish_many("orders", [1, 2])
        spans.provider.add_span_processor(Opens())
        with spans.caller():
            app.publish("orders", 3)
        (create,) = spans.named("create orders")
    assert create.start_time < ended_ns[0] < create.end_time


# -- at most so many ----------------------------------------------------------------------------------


def test_beyond_max_spans_the_callers_context_is_passed_on_and_counted() -> None:
    """The last span, which ends after its caller, counts those that were left out."""
    spans = Spans()
    with running(table(probe(echo))) as app, spans.of(app, max_spans=2):
        with spans.caller() as caller:
            sent = [*results(app, *range(5)), one(app).result]
        assert [one["traceparent"] for one in sent[2:]] == [traceparent(caller)] * 4
        creates = spans.named("create orders", 2)
        assert [attributes(create).get("rambla.create.left_out") for create in creates] == [None, 4]
        assert all(create.end_time <= spans.named("caller")[0].end_time for create in creates)
        with spans.caller():
            results(app, 1, 2)
        spans.named("create orders", 4)
        assert "rambla.create.left_out" not in attributes(spans.all()[-1])


@pytest.mark.parametrize("end", ["the stop", "the end of the traces"])
def test_the_last_span_is_not_lost(end: str) -> None:
    """It ends with the app, or with the instrumentation, even if its caller goes on."""
    spans = Spans()
    with spans.caller(), running(table(probe(echo))) as app:
        stop = instrument(app, tracer_provider=spans.provider, max_spans=1)
        results(app, 1, 2)
        if end == "the stop":
            app.stop()
        else:
            stop()
        (create,) = spans.named("create orders")
        stop()
    assert attributes(create)["rambla.create.left_out"] == 1


# -- attempts and ends --------------------------------------------------------------------------------


def test_attempts_are_siblings_and_failed_ones_have_an_error() -> None:
    """Both hang under the create span; the text is redacted."""
    spans = Spans()
    handler = probe(flaky(1, ValueError("no, for amqp://u:c4n4ry-s3cret@host/")))
    with running(table(handler)) as app, spans.of(app):
        with spans.caller():
            assert one(app).status == "ok"
        first, second = spans.named("send orders", 2)
        (create,) = spans.named("create orders")
    assert is_child(first, create)
    assert is_child(second, create)
    assert [attributes(span)["rambla.attempt"] for span in (first, second)] == [1, 2]
    assert attributes(first)["error.type"] == "ValueError"
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "ValueError: no, for amqp://u:***@host/"
    assert "error.type" not in attributes(second)
    assert first.end_time <= second.start_time


@pytest.mark.parametrize(
    ("answer", "options", "status", "error", "attempts"),
    [
        (PermanentError("no"), {}, "fatal", "PermanentError", 1),
        (ValueError("no"), {"retries": 1}, "fatal", "ValueError", 2),
        (ValueError("no"), {"expires_s": 0.05, "backoff": {"initial_s": 60.0}}, "expired", "ExpiredError", 1),
        (ValueError("no"), {"callbacks": {"on_failure": lambda _: STOP}}, "failed", "ValueError", 1),
        (UnknownOutcomeError("gone"), {}, "unknown", "UnknownOutcomeError", 1),
    ],
)
def test_a_delivery_that_fails_has_a_span_from_acceptance_to_its_end(
    answer: Exception, options: Any, status: str, error: str, attempts: int
) -> None:
    """It says how it ended."""
    spans = Spans()
    with running(table(probe(flaky(99, answer)), on_unknown="report")) as app, spans.of(app):
        with spans.caller():
            assert one(app, **options).status == status
        (lost,), (create,) = spans.named("not delivered orders"), spans.named("create orders")
        sends = spans.named("send orders", attempts)
    assert lost.kind is SpanKind.INTERNAL
    assert is_child(lost, create)
    assert attributes(lost)["rambla.status"] == status
    assert attributes(lost)["error.type"] == error
    assert lost.status.status_code is StatusCode.ERROR
    assert lost.start_time <= sends[0].start_time
    assert lost.end_time >= sends[-1].end_time


def test_a_message_that_is_dropped_at_the_stop_has_a_span() -> None:
    """It was never attempted."""
    spans = Spans()
    app = Rambla(table(probe(echo), {"delay_s": 60.0})).start()
    with spans.of(app), spans.caller():
        app.publish("orders", 1)
        app.stop()
        (lost,) = spans.named("not delivered orders")
    assert attributes(lost)["rambla.status"] == "dropped"
    assert spans.names() == ["caller", "create orders", "not delivered orders"]


def test_a_lost_connection_is_an_attempt_that_failed() -> None:
    """The next one succeeds, under the same span."""
    lost: list[str] = []

    def lose_once(message: Any) -> Any:
        if not lost:
            lost.append(message.id)
            raise ConnectionLostError("gone")

    spans = Spans()
    with running(table(probe(lose_once))) as app, spans.of(app):
        with spans.caller():
            assert one(app).status == "ok"
        first, second = spans.named("send orders", 2)
        (create,) = spans.named("create orders")
    assert attributes(first)["error.type"] == "ConnectionLostError"
    assert is_child(second, create)


def test_the_spans_of_a_fallback_hang_under_the_same_create_span() -> None:
    """There is one create span, and a span for the end on the first channel."""
    spans = Spans()
    config = {
        "one": service(probe(flaky(99, PermanentError("no"))), orders={"fallback": "spare"}),
        "two": service(probe(echo), spare={}),
    }
    with running(config) as app, spans.of(app):
        with spans.caller():
            outcome = one(app)
        (create,) = spans.named("create orders")
        for name in ("send orders", "send spare", "not delivered orders"):
            assert is_child(spans.named(name)[0], create)
    assert outcome.fallback is not None
    assert outcome.fallback.result == {"traceparent": traceparent(create)}
    assert len(spans.all()) == 5


def test_spans_of_the_handler_hang_under_its_attempt() -> None:
    """The span of the attempt is current while handle_publish runs; afterwards it is not."""
    spans = Spans()
    seen = []

    def handle(message: Any) -> None:
        with spans.provider.get_tracer("driver").start_as_current_span("inner"):
            pass

    class Async(Handler):
        """Does the same in a task."""

        async def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            """Make a span."""
            handle(message)

        def on_outcome(self, outcome: Any) -> None:
            """Look at the current span."""
            seen.append(trace.get_current_span().get_span_context().is_valid)

    for handler in (probe(handle, on_outcome=Async.on_outcome), Async):
        spans, seen = Spans(), []
        with running(table(handler)) as app, spans.of(app):
            with spans.caller():
                assert one(app).status == "ok"
            (inner,), (send,) = spans.named("inner"), spans.named("send orders")
        assert is_child(inner, send)
        assert seen == [False]


class Vague(Handler):
    """Cannot say where it sends to."""

    def describe(self, options: Any) -> Any:
        """Raise."""
        raise LookupError("no")

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        """Return the body as an event."""
        return json.loads(message.body())


def test_a_handler_that_cannot_describe_its_destination_is_traced(caplog: pytest.LogCaptureFixture) -> None:
    """Its spans show the channel, and a warning says why."""
    spans = Spans()
    with running(table(Vague)) as app, spans.of(app), spans.caller():
        assert one(app, {"n": 1}).status == "ok"
        assert attributes(spans.named("send orders")[0])["messaging.destination.name"] == "orders"
    assert "probe.orders: describe raised LookupError; spans show its channel only" in caplog.messages


def test_a_cloudevent_has_the_context_as_extension_attributes() -> None:
    """They are those of its create span."""
    spans = Spans()
    with running(table(Vague, {"serializer": "cloudevents"})) as app, spans.of(app):
        with spans.caller():
            event = one(app, {"n": 1}).result
        (create,) = spans.named("create orders")
    assert event["traceparent"] == traceparent(create)


# -- processes, and the end ---------------------------------------------------------------------------


def test_a_forked_child_makes_spans_of_its_own() -> None:
    """Those of the parent are not ended in it."""
    spans = Spans()

    def child() -> None:
        spans.clear()
        with spans.caller():
            assert one(app).status == "ok"
        app.stop()
        assert spans.names() == ["caller", "create orders", "send orders"]

    with running(table(probe(echo))) as app, spans.of(app, max_spans=2):
        with spans.caller():
            results(app, 1, 2, 3)
            assert in_child(child) == 0
        spans.named("create orders", 2)


def test_instrument_twice_is_once_and_its_end_leaves_nothing() -> None:
    """Either function ends it; afterwards a message is as before."""
    spans, others = Spans(), Spans()
    with running(table(probe(echo))) as app:
        one(app)
        path = app._fast_paths["orders"]
        end = instrument(app, tracer_provider=spans.provider)
        assert instrument(app, tracer_provider=others.provider) == end
        with spans.caller():
            one(app)
        spans.named("send orders")
        end()
        end()
        with spans.caller():
            assert one(app).result == {}
        assert type(app._fast_paths["orders"]) is type(path)
        assert (len(spans.all()), others.names()) == (4, [])
        assert not app._lifecycle._observers.attempted
        assert app._lifecycle._companions == ()


def test_an_app_that_starts_later_is_traced() -> None:
    """And one that starts again."""
    spans = Spans()
    app = Rambla(table(probe(echo)))
    with spans.of(app):
        for number in (1, 2):
            with app, spans.caller():
                assert one(app).result.keys() == {"traceparent"}
            spans.named("send orders", number)


def test_the_instrumentor_traces_every_app_that_starts() -> None:
    """After ``uninstrument`` none is, those that ran before included."""
    spans, before = Spans(), Rambla(table(probe(echo)))
    RamblaInstrumentor().instrument(tracer_provider=spans.provider, skip_dep_check=True)
    try:
        assert RamblaInstrumentor().is_instrumented_by_opentelemetry
        with before, spans.caller():
            assert one(before).result.keys() == {"traceparent"}
            RamblaInstrumentor().uninstrument()
            assert one(before).result == {}
        with running(table(probe(echo))) as after, spans.caller():
            assert one(after).result == {}
    finally:
        RamblaInstrumentor().uninstrument()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["opentelemetry_instrumentor"] == {
        "rambla": f"{RamblaInstrumentor.__module__.rpartition('.')[0]}:{RamblaInstrumentor.__name__}"
    }


def test_a_stored_message_keeps_its_context(tmp_path: Path) -> None:
    """A process that finds it in the outbox sends it under the span of the one that published it."""
    spans = Spans()
    config = table(probe(flaky(99, ConnectionLostError("gone"))), durable=True)
    config["rambla"] = {"outbox": {"url": f"sqlite:///{tmp_path}/outbox.db"}}
    first = Rambla(config).start()
    with spans.of(first):
        with spans.caller():
            first.publish("orders", 1)
        (create,) = spans.named("create orders")
        first.stop(timeout_s=0.0)
    spans.clear()
    config["probe"]["handler"] = probe(echo)
    second = Rambla(config)
    with spans.of(second), second:
        (send,) = spans.named("send orders")
    assert is_child(send, create)
    assert send.status.status_code is StatusCode.UNSET
