"""Tests of the kafka connection's table and of records, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from deliveries import make_delivery

from rambla_py import ConfigError, load_config
from rambla_py.errors import (
    AccessError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
    UnroutableError,
)
from rambla_py.handler import Secret
from rambla_py.handlers.kafka import KafkaHandler
from rambla_py.handlers.kafka.encode import RecordMaker
from rambla_py.handlers.kafka.errors import report_error
from rambla_py.handlers.kafka.settings import KafkaSettings, producer_config

OIDC = {
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "shop",
    "sasl.oauthbearer.client.secret": "canary-secret",
    "sasl.oauthbearer.token.endpoint.url": "https://127.0.0.1:9/token",
}


def load(table: dict[str, Any]) -> Any:
    channels = {"orders": {"connection": "main"}}
    return load_config({"kafka": {"connections": {"main": table}, "channels": channels}})


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"config": {"bogus.name": 1}}, "'bogus.name': librdkafka has no such setting"),
        ({"config": {"socket.timeout.ms": "soon"}}, "'socket.timeout.ms': librdkafka does not accept"),
        ({"config": {"oauth_cb": "shop:token"}}, "'oauth_cb': takes a Python object"),
        ({"config": {"error_cb": "shop:error"}}, "'error_cb': takes a Python object"),
        ({"config": {"acks": 0}}, "'acks': the handler sets it"),
        ({"config": {"max.in.flight": 10}}, "must be set <= 5"),
        ({"servers": "kafka://canary-secret@a:9092"}, "host:port"),
        ({"servers": ["a:9092", "b:0"]}, "host:port"),
        ({"servers": "a:b"}, "host:port"),
        ({"servers": ""}, "host:port"),
        ({"sasl_mechanism": "GSSAPI"}, "confluent-kafka is built without it"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "without a token endpoint"),
        ({"sasl_mechanism": "OAUTHBEARER", "config": OIDC, "username": "shop"}, "username or password"),
    ],
    ids=repr,
)
def test_what_no_driver_knows_is_refused_at_load(table: dict[str, Any], expected: str) -> None:
    """The error has the path of the connection and names the setting; it shows no value."""
    with pytest.raises(ConfigError) as caught:
        load(table)
    assert "kafka.connections.main" in str(caught.value)
    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {"config": {"partitioner": "murmur2_random", "statistics.interval.ms": 1000}},
        {"config": {"max.in.flight": 10}, "acks": "leader"},
        {"servers": ["[::1]:9092", "kafka-1", "10.0.0.1:9093"]},
        {"servers": "a:1, b:2"},
    ],
    ids=repr,
)
def test_settings_that_librdkafka_knows_are_accepted(table: dict[str, Any]) -> None:
    """A setting is only refused for what the driver itself would refuse."""
    load(table)


def test_a_token_endpoint_for_oauthbearer() -> None:
    """The mechanism reaches the driver with the settings in config, and no show of the secret."""
    table = {"sasl_mechanism": "OAUTHBEARER", "config": OIDC, "tls": True}
    assert "canary" not in repr(load(table))
    found = producer_config(KafkaSettings(sasl_mechanism="OAUTHBEARER", config=OIDC, tls=True))
    assert (found["sasl.mechanisms"], found["security.protocol"]) == ("OAUTHBEARER", "SASL_SSL")
    assert found.items() >= OIDC.items()


def test_a_login_with_a_password() -> None:
    """User and password are given to the driver for every other mechanism."""
    found = producer_config(KafkaSettings(username="shop", password=Secret("p"), sasl_mechanism="PLAIN"))
    assert (found["security.protocol"], found["sasl.username"], found["sasl.password"]) == (
        "SASL_PLAINTEXT",
        "shop",
        "p",
    )


@pytest.mark.parametrize(
    "fields",
    [{"key": "\udcff"}, {"given_id": "\udcff"}, {"headers": {"\udcff": 1}}, {"headers": {"a": "\udcff"}}],
)
def test_a_lone_surrogate_is_fatal(fields: dict[str, Any]) -> None:
    """In key, id and headers, by an error that names the part."""
    delivery = make_delivery(b"x", options=KafkaHandler.Options(), **fields)
    with pytest.raises(PermanentError):
        RecordMaker("t").record(delivery)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.NOT_ENOUGH_REPLICAS, UnavailableError),
        (KafkaError.THROTTLING_QUOTA_EXCEEDED, UnavailableError),
        (KafkaError.LEADER_NOT_AVAILABLE, UnavailableError),
        (KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, UnknownOutcomeError),
        (KafkaError._MSG_TIMED_OUT, UnknownOutcomeError),
        (KafkaError._UNKNOWN_TOPIC, UnroutableError),
        (KafkaError.INVALID_RECORD, PermanentError),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, AccessError),
        (KafkaError.UNSUPPORTED_VERSION, AccessError),
        (KafkaError.UNKNOWN, RejectedError),
    ],
)
def test_what_a_report_means(code: int, kind: type[DeliveryError]) -> None:
    """Each kind of failure has its error; an unknown one is retried."""
    assert type(report_error(KafkaError(code), topic="t")) is kind


@pytest.mark.parametrize(
    ("code", "lost"), [(KafkaError._MSG_TIMED_OUT, False), (KafkaError._PURGE_INFLIGHT, True)]
)
def test_a_time_out_is_no_loss_of_the_producer(code: int, lost: bool) -> None:
    """One message that the driver gave up leaves the others in flight."""
    error = report_error(KafkaError(code), topic="t")
    assert isinstance(error, UnknownOutcomeError)
    assert error.connection_lost is lost
