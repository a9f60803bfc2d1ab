"""Tests of the mqtt handler against real brokers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from broker_apps import app_on, statuses
from delivery_target import Target, live_delivery
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from rambla_py.app import Rambla
from rambla_py.delivery import Delivery
from rambla_py.errors import AccessError, ConnectionLostError, PermanentError
from rambla_py.handlers.mqtt import MqttHandler
from rambla_py.handlers.mqtt.connection import MqttConnection
from rambla_py.handlers.mqtt.errors import publish_error, refusal
from rambla_py.message import Message
from rambla_py.policy import Policy
from rambla_py.testing import TlsFiles
from rambla_py.testing.harness import until
from rambla_py.testing.mosquitto import MosquittoServer


@contextmanager
def listening(server: MosquittoServer, topic: str) -> Iterator[list[Any]]:
    """Subscribe, and give the list that messages are added to."""
    heard: list[Any] = []
    ready = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda client, userdata, message: heard.append(message)
    client.on_subscribe = lambda *_: ready.set()
    client.connect(server.host, server.port)
    client.loop_start()
    client.subscribe(topic, 2)
    assert ready.wait(10)
    yield heard
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()  # paho leaves those that wake its thread to the collector


def on(server: MosquittoServer, **settings: Any) -> dict[str, Any]:
    return {"host": server.host, "port": server.port, **settings}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_carries_properties(qos: int, mosquitto: MosquittoServer, unique_name: str):
    """Headers and id are user properties; expiry, content and response have places of their own."""
    options = {"qos": qos, "message_expiry_s": 60, "response_topic": "answers"}
    with listening(mosquitto, unique_name) as heard, app_on("mqtt", on(mosquitto), topic=unique_name) as app:
        app.publish("orders", {"n": 1}, id="the-id", headers={"kind": "paid"}, **options).result(timeout_s=5)
        assert until(lambda: heard)
    (message,) = heard
    assert (message.payload, message.qos) == (b'{"n":1}', qos)
    assert dict(message.properties.UserProperty) == {"kind": "paid", "id": "the-id"}
    assert message.properties.MessageExpiryInterval <= 60
    assert (message.properties.ContentType, message.properties.ResponseTopic) == (
        "application/json",
        "answers",
    )


def test_an_event_in_binary_mode_has_its_attributes_in_properties(
    mosquitto: MosquittoServer, unique_name: str
):
    """CloudEvents go as their binding for MQTT says, with one id."""
    with listening(mosquitto, unique_name) as heard, app_on("mqtt", on(mosquitto), topic=unique_name) as app:
        app.publish("orders", {"n": 1}, id="the-id", serializer="cloudevents-binary").result(timeout_s=5)
        assert until(lambda: heard)
    names = [name for name, _ in heard[0].properties.UserProperty]
    assert (names.count("id"), names.count("specversion")) == (1, 1)
    assert heard[0].properties.ContentType == "application/json"


def test_a_retained_message_is_there_for_those_who_come_later(mosquitto: MosquittoServer, unique_name: str):
    """The broker keeps it."""
    with app_on("mqtt", on(mosquitto), topic=unique_name, retain=True) as app:
        assert statuses(app, ["kept"]) == ["ok"]
    with listening(mosquitto, unique_name) as heard:
        assert until(lambda: heard)
    assert (heard[0].payload, heard[0].retain) == (b"kept", True)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_receive_maximum_is_respected(qos: int, unique_name: str):
    """A broker that takes three at a time closes the connection over a fourth, and is not sent it."""
    with MosquittoServer(config=["max_inflight_messages 3"]) as server:
        with app_on("mqtt", on(server), topic=unique_name, qos=qos) as app:
            outcomes = app.publish_many("orders", [str(at) for at in range(300)]).outcomes(timeout_s=20)
        assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}


@pytest.mark.parametrize("qos", [1, 2])
def test_a_topic_that_is_forbidden(qos: int, tmp_path: Any, unique_name: str):
    """Refused with a PUBACK or a PUBREC, a message waits until it is allowed; others are delivered meanwhile."""
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite allowed/#\n")
    with MosquittoServer(config=[f"acl_file {rules}"]) as server:  # noqa: SIM117  # reads better as two
        with app_on("mqtt", on(server), topic="allowed/a", qos=qos, retries=0) as app:
            receipt = app.publish("orders", "x", topic="forbidden/a")
            assert until(lambda: app.status()["broker.orders"].state == "down")
            assert "not authorized" in str(app.status()["broker.orders"].last_error)
            assert statuses(app, ["x"] * 30) == ["ok"] * 30
            rules.write_text("topic readwrite #\n")
            assert server.pid
            os.kill(server.pid, signal.SIGHUP)
            assert receipt.outcomes(timeout_s=20)[0].status == "ok"


def test_what_the_broker_does_not_do_is_fatal(unique_name: str):
    """A broker without retain, or with a lower QoS, would close the connection."""
    with MosquittoServer(config=["retain_available false", "max_qos 1"]) as server:  # noqa: SIM117  # reads better as two
        with app_on("mqtt", on(server), topic=unique_name) as app:
            for options in ({"retain": True}, {"qos": 2}):
                (outcome,) = app.publish("orders", "x", **options).outcomes(timeout_s=5)
                assert (outcome.status, outcome.attempts) == ("fatal", 1), options
            assert statuses(app, ["x"]) == ["ok"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"headers": {"why": "two\nlines"}}, "header 'why'"),
        ({"headers": {"a\tb": "x"}}, "header 'a"),
        ({"headers": {"why": "\ufffe"}}, "header 'why'"),
        ({"id": "a\x7fb"}, "header 'id'"),
        ({"topic": "a\nb"}, "topic 'a"),
        ({"response_topic": "a\x01b"}, "response_topic"),
        ({"content_type": "a\0b"}, "content_type"),
    ],
    ids=repr,
)
def test_a_text_that_mqtt_does_not_hold(
    options: Any, expected: str, mosquitto: MosquittoServer, unique_name: str
):
    """It is fatal for its message alone: the broker would close the connection over it."""
    with app_on("mqtt", on(mosquitto), topic=unique_name) as app:
        receipt = app.publish_many("orders", ["1", Message("2", **options), "3"])
        outcomes = receipt.outcomes(timeout_s=10)
        assert not any(reason.startswith("lost:") for reason in app.status()["broker.orders"].reasons)
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    assert type(outcomes[1].error) is PermanentError
    assert expected in str(outcomes[1].error)


def test_a_channel_whose_name_is_no_topic(mosquitto: MosquittoServer):
    """A name with a wildcard is fatal at once, and the error names the option to set."""
    channels = {"a/+": {"options": {"retries": 5}}}
    with Rambla({"mqtt": {"connections": {"main": on(mosquitto)}, "channels": channels}}) as app:
        (outcome,) = app.publish("a/+", 1).outcomes(timeout_s=10)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert "the option 'topic'" in str(outcome.error)


def test_a_paused_broker_does_not_hold_up_the_stop(mosquitto: MosquittoServer, unique_name: str):
    """Messages without an acknowledgement are given up when the app stops."""
    with app_on("mqtt", on(mosquitto), topic=unique_name) as app:
        app.publish("orders", "first").result(timeout_s=5)
        mosquitto.pause()
        receipt = app.publish("orders", "in flight")
        app.stop(timeout_s=0.2)
        (outcome,) = receipt.outcomes(timeout_s=5)
    assert outcome.status in ("dropped", "unknown")


def wire_to(server: MosquittoServer, **settings: Any) -> tuple[MqttHandler, MqttConnection]:
    connection = MqttHandler.Connection(**on(server, **settings))
    handler = MqttHandler(connection, channel="orders", service="mqtt", options=MqttHandler.Options())
    return handler, handler.connect()


class Notes:
    """A session that writes down how a delivery was settled."""

    def __init__(self) -> None:
        self.settled: list[str] = []

    def settle(self, delivery: Delivery, answer: Any) -> None:
        self.settled.append(repr(answer))

    def settle_ok(self, delivery: Delivery, result: Any) -> None:
        self.settled.append("ok")


def test_a_ping_is_a_round_trip(mosquitto: MosquittoServer):
    """It asks the broker: one that has stopped answering does not pass for one that is there."""
    handler, wire = wire_to(mosquitto, connect_timeout_s=0.5)
    try:
        handler.ping(wire)
        mosquitto.pause()
        with pytest.raises(ConnectionLostError, match="did not answer"):
            handler.ping(wire)
        mosquitto.resume()
        handler.ping(wire)
    finally:
        mosquitto.resume()
        handler.close(wire)
    with pytest.raises(ConnectionLostError):
        handler.ping(wire)


def test_what_others_publish_by_our_client_confirms_nothing(mosquitto: MosquittoServer, unique_name: str):
    """A callable's own message has a number, which comes again after 65,535: it is no answer to ours then."""
    handler, wire = wire_to(mosquitto)
    try:
        done = wire.client.publish(unique_name, "by hand", 1)
        done.wait_for_publish(10)
        wire.client._last_mid = done.mid - 1  # as after as many messages
        notes = Notes()
        options = MqttHandler.Options(topic=unique_name)
        mosquitto.pause()
        wire.publish(
            [live_delivery("ours", target=Target("mqtt"), options=options, policy=Policy(), session=notes)]
        )
        assert notes.settled == []
        mosquitto.resume()
        assert until(lambda: notes.settled == ["ok"])
    finally:
        mosquitto.resume()
        handler.close(wire)


def test_the_names_of_two_machines_differ():
    """Two containers may have the same numbers of process and worker: the second would throw the first out."""
    code = (
        "import os; from rambla_py.handlers.mqtt import MqttHandler as M;"
        "h = M(M.Connection(client_id='shop'), channel='o', service='m'); n = h.client_id();"
        "print(n.replace(str(os.getpid()), 'PID')); assert n == h.client_id()"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    )
    assert first.startswith("shop-PID-1-")
    assert first != second


def test_tls_with_a_login(mosquitto_tls_server: MosquittoServer, tls_files: TlsFiles):
    """Messages go over TLS when the authority is known."""
    url = f"mqtts://somebody:s3cret@localhost:{mosquitto_tls_server.port}"
    connection = {"url": url, "tls": {"ca_file": str(tls_files.authority)}}
    with app_on("mqtt", connection, topic="t") as app:
        assert statuses(app, ["x"] * 10) == ["ok"] * 10


def test_a_certificate_that_is_not_trusted(mosquitto_tls_server: MosquittoServer):
    """An unknown authority is refused access."""
    ping = app_on("mqtt", on(mosquitto_tls_server, tls=True)).ping("orders")[0]
    assert isinstance(ping.exception, AccessError)
    assert "certificate" in str(ping.exception)


@pytest.mark.parametrize(("code", "kind"), [(0x86, "AccessError"), (0x89, "ConnectionLostError")])
def test_reason_codes_of_a_refused_connection(code: int, kind: str):
    """A person must act on bad credentials, and on nothing else."""
    assert type(refusal(code, "mqtt at db:1883", "cannot connect")).__name__ == kind


@pytest.mark.parametrize(
    ("code", "retryable"), [(0x80, True), (0x83, True), (0x97, True), (0x90, False), (0x99, False)]
)
def test_reason_codes_of_a_refused_message(code: int, retryable: bool):
    """What may pass later is retried."""
    assert publish_error(code, "mqtt at db:1883", "t").retryable is retryable
