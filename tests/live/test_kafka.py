"""Tests of the kafka handler against brokers that speak the protocol, and against their faults."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from typing import Any

import pytest
from broker_apps import app_on, statuses
from confluent_kafka import KafkaError
from kafka_records import records_of

from rambla_py.errors import AccessError, PayloadTooLargeError, PermanentError, UnroutableError
from rambla_py.handlers.kafka import KafkaHandler
from rambla_py.handlers.kafka.encode import record_size
from rambla_py.handlers.kafka.errors import report_error
from rambla_py.message import Message
from rambla_py.testing import FaultProxy, RedisServer, TlsFiles
from rambla_py.testing.harness import until
from rambla_py.testing.kafka_cluster import PRODUCE, KafkaCluster


def on(cluster: KafkaCluster, **settings: Any) -> dict[str, Any]:
    return {"servers": cluster.servers, "outage_s": 30, **settings}


def test_a_record_carries_key_headers_id_partition_and_time(kafka_cluster: KafkaCluster):
    """What Kafka has a place for arrives there."""
    with app_on("kafka", on(kafka_cluster), topic="t") as app:
        given = {"id": "the-id", "headers": {"kind": "paid", "tries": 3, "raw": b"\xff"}, "timestamp": 1234}
        result = app.publish("orders", {"n": 1}, key="k", partition=2, **given).result(timeout_s=10)
    (record,) = records_of(kafka_cluster, "t")
    assert (result.topic, result.partition, result.offset) == ("t", 2, 0)
    assert (record.value(), record.key(), record.partition()) == (b'{"n":1}', b"k", 2)
    assert record.timestamp()[1] == 1234
    assert dict(record.headers()) == {"kind": b"paid", "tries": b"3", "raw": b"\xff", "id": b"the-id"}


def test_an_event_in_binary_mode_has_its_attributes_in_headers(kafka_cluster: KafkaCluster):
    """CloudEvents go as their binding for Kafka says."""
    with app_on("kafka", on(kafka_cluster), topic="t", serializer="cloudevents-binary") as app:
        app.publish("orders", {"n": 1}, id="the-id").result(timeout_s=10)
    (record,) = records_of(kafka_cluster, "t")
    headers = dict(record.headers())
    assert (headers["ce_id"], headers["content-type"], record.value()) == (
        b"the-id",
        b"application/json",
        b'{"n":1}',
    )


def test_the_options_for_key_id_and_tombstone(kafka_cluster: KafkaCluster):
    """A record may have another key than the message, no id, and no value."""
    with app_on("kafka", on(kafka_cluster), topic="t", id_header="") as app:
        app.publish("orders", "x", key="k", record_key="r", tombstone=True).result(timeout_s=10)
    (record,) = records_of(kafka_cluster, "t")
    assert (record.key(), record.value(), record.headers()) == (b"r", None, None)


def test_the_messages_of_a_key_keep_their_order(kafka_cluster: KafkaCluster):
    """A key has one partition, and its messages stand there as they were published."""
    with app_on("kafka", on(kafka_cluster, linger_s=0), topic="t") as app:
        messages = [Message(str(at), key=f"k{at % 5}") for at in range(200)]
        assert set(statuses(app, messages)) == {"ok"}
    values = defaultdict(list)
    for record in records_of(kafka_cluster, "t"):
        values[record.key(), record.partition()].append(int(record.value()))
    assert len(values) == 5
    assert all(numbers == sorted(numbers) for numbers in values.values())


def test_what_the_driver_sends_again_does_not_come_twice(kafka_cluster: KafkaCluster):
    """A broker that is not the leader, or loses replicas, costs no attempt, and makes no duplicate."""
    with app_on("kafka", on(kafka_cluster), topic="t") as app:
        app.publish("orders", "first").result(timeout_s=10)
        kafka_cluster.fail_next(PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.NOT_ENOUGH_REPLICAS)
        outcomes = app.publish_many("orders", [str(at) for at in range(50)]).outcomes(timeout_s=20)
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}
    assert len(records_of(kafka_cluster, "t")) == 51


def test_messages_wait_while_all_brokers_are_gone(kafka_cluster: KafkaCluster):
    """While no broker is there the channel is blocked; then everything arrives, once."""
    with app_on("kafka", on(kafka_cluster), topic="t") as app:
        app.publish("orders", "first").result(timeout_s=10)
        kafka_cluster.down()
        assert until(lambda: app.status()["broker.orders"].workers == ["blocked"])
        receipt = app.publish_many("orders", [str(at) for at in range(50)])
        kafka_cluster.up()
        outcomes = receipt.outcomes(timeout_s=20)
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}
    assert len(records_of(kafka_cluster, "t")) == 51


def test_a_long_outage_is_a_lost_connection(kafka_cluster: KafkaCluster):
    """After outage_s what was in flight is unknown, and nothing else is."""
    connection, channel = on(kafka_cluster, outage_s=0.3), {"on_unknown": "report"}
    with app_on("kafka", connection, channel=channel, topic="t") as app:
        app.publish("orders", "first").result(timeout_s=10)
        kafka_cluster.delay(5)
        receipt = app.publish("orders", "in flight")
        assert until(lambda: app.status()["broker.orders"].in_flight == 1)
        kafka_cluster.down()
        assert [outcome.status for outcome in receipt.outcomes(timeout_s=20)] == ["unknown"]
        kafka_cluster.delay(0)
        kafka_cluster.up()
        assert statuses(app, ["again"]) == ["ok"]


def test_a_cluster_that_is_far_away(kafka_cluster: KafkaCluster):
    """Brokers that answer after a quarter of a second are reached, and found again when they were gone."""
    kafka_cluster.delay(0.25)
    with app_on("kafka", on(kafka_cluster, outage_s=3), topic="t") as app:
        app.publish("orders", "first").result(timeout_s=10)
        kafka_cluster.down()
        assert until(lambda: app.status()["broker.orders"].state != "up")
        kafka_cluster.up()
        assert statuses(app, ["again"]) == ["ok"]
        assert not any(reason.startswith("lost:") for reason in app.status()["broker.orders"].reasons)


def test_a_batch_that_is_refused_is_sent_message_by_message(kafka_cluster: KafkaCluster):
    """A broker refuses a batch for one message in it; the others are not to suffer."""
    with app_on("kafka", on(kafka_cluster, linger_s=0.1), topic="t") as app:
        app.publish("orders", "first", partition=0).result(timeout_s=10)
        kafka_cluster.fail_next(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.MSG_SIZE_TOO_LARGE)
        outcomes = app.publish_many("orders", [str(at) for at in range(20)], partition=0).outcomes(
            timeout_s=20
        )
    bad = [outcome for outcome in outcomes if outcome.status != "ok"]
    assert [(outcome.status, type(outcome.error)) for outcome in bad] == [("fatal", PermanentError)]
    assert "MSG_SIZE_TOO_LARGE" in str(bad[0].error)
    assert len(records_of(kafka_cluster, "t")) == 20


def test_a_topic_that_is_forbidden_for_a_while(kafka_cluster: KafkaCluster):
    """The message waits, without a retry to spend, until the right is there."""
    with app_on("kafka", on(kafka_cluster), topic="t", retries=0) as app:
        app.publish("orders", "first").result(timeout_s=10)
        kafka_cluster.fail_next(PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        (outcome,) = app.publish("orders", "x").outcomes(timeout_s=20)
        assert "unavailable:AccessError" in app.status()["broker.orders"].reasons
    assert (outcome.status, outcome.attempts > 1) == ("ok", True)


def test_a_partition_that_is_not_there_is_retried_and_fatal(kafka_cluster: KafkaCluster):
    """A message that has nowhere to go fails by name."""
    with app_on("kafka", on(kafka_cluster), topic="t") as app:
        (outcome,) = app.publish("orders", "x", partition=99).outcomes(timeout_s=20)
    assert (outcome.status, outcome.attempts) == ("fatal", 2)
    assert isinstance(outcome.error, UnroutableError)


def test_a_full_queue_of_the_driver_holds_messages_back(kafka_cluster: KafkaCluster):
    """What the driver has no room for waits, and is not lost."""
    connection = on(kafka_cluster, config={"queue.buffering.max.messages": 50})
    with app_on("kafka", connection, topic="t") as app:
        assert set(statuses(app, [str(at) for at in range(1000)])) == {"ok"}
    assert len(records_of(kafka_cluster, "t")) == 1000


def test_a_fatal_error_of_the_producer_renews_the_connection(kafka_cluster: KafkaCluster):
    """A producer that cannot go on is replaced, and its messages are sent again."""
    with app_on("kafka", on(kafka_cluster), topic="t") as app:
        app.publish("orders", "first", partition=0).result(timeout_s=10)
        kafka_cluster.fail_next(PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        (outcome,) = app.publish("orders", "x", partition=0).outcomes(timeout_s=20)
        assert outcome.status == "ok"
        assert app.status()["broker.orders"].reasons
    assert "x" in [record.value().decode() for record in records_of(kafka_cluster, "t")]


def test_the_stop_frees_the_producer():
    """Its sockets are closed without the garbage collector, which may not run for minutes."""
    with KafkaCluster(brokers=1) as cluster:
        cluster.create_topic("t")
        host, port = cluster.servers.split(":")
        gc.disable()
        try:
            with FaultProxy(host, int(port)) as proxy:
                cluster.advertise(1, *proxy.address)
                with app_on("kafka", {"servers": f"{proxy.host}:{proxy.port}"}, topic="t") as app:
                    app.publish("orders", "x").result(timeout_s=10)
                    assert proxy.open
                assert until(lambda: not proxy.open, 5), repr(proxy)
        finally:
            gc.enable()


def test_a_certificate_of_an_unknown_authority(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """TLS that cannot be trusted is an AccessError, whatever server is behind it."""
    servers = f"localhost:{redis_tls_server.port}"
    settings = KafkaHandler.Connection(servers=servers, tls=True, connect_timeout_s=5)
    with pytest.raises(AccessError, match="certificate"):
        KafkaHandler(settings, channel="orders", service="kafka").connect()


def test_messages_go_over_tls(tls_files: TlsFiles):
    """Brokers whose certificate is of a known authority, and for their own address, are talked to."""
    with KafkaCluster(brokers=1) as cluster:
        host, port = cluster.servers.split(":")
        with FaultProxy(host, int(port), tls=tls_files) as front:
            cluster.advertise(1, *front.address)
            connection = {
                "servers": f"{front.host}:{front.port}",
                "tls": {"ca_file": str(tls_files.authority)},
            }
            with app_on("kafka", connection, topic="t") as app:
                assert set(statuses(app, ["x"] * 10)) == {"ok"}


def test_a_record_is_counted_as_the_driver_counts_it(kafka_cluster: KafkaCluster):
    """A message over the limit by its key and headers says by how much; a byte less is delivered."""
    given = {"id": "the-id", "key": "k" * 70, "headers": {"name": "v" * 100}}
    around = record_size(("t", b"", b"k" * 70, -1, 0, [("name", b"v" * 100), ("id", b"the-id")]))
    spare = 10_000 - around
    with app_on("kafka", on(kafka_cluster, max_message_bytes=10_000), topic="t") as app:
        app.publish("orders", b"x" * spare, **given).result(timeout_s=10)
        (outcome,) = app.publish("orders", b"x" * (spare + 1), **given).outcomes(timeout_s=10)
    assert isinstance(outcome.error, PayloadTooLargeError)
    assert (outcome.error.size, outcome.error.limit) == (10_001, 10_000)


def test_a_topic_that_is_not_there_is_reported_before_the_time_out(kafka_cluster: KafkaCluster):
    """The broker's answer is the error, long before the driver gives the message up."""
    connection = on(kafka_cluster, config={"allow.auto.create.topics": False})
    with app_on("kafka", connection, topic="t", retries=0) as app:
        (outcome,) = app.publish("orders", "x", topic="nowhere").outcomes(timeout_s=20)
    assert (outcome.status, type(outcome.error)) == ("fatal", UnroutableError)
    assert "nowhere" in str(outcome.error)


def test_a_report_function_that_raises(kafka_cluster: KafkaCluster, caplog: pytest.LogCaptureFixture):
    """What a callable's own report function raises is logged, and ends neither thread nor connection."""
    raised = threading.Event()

    def produce(*, source: Any, destination: Any, options: Any) -> None:
        def report(error: Any, message: Any) -> None:
            raised.set()
            raise ValueError("raised by a callable")

        destination.produce("t", b"by hand", on_delivery=report)

    with app_on("kafka", on(kafka_cluster), topic="t") as app:
        app.publish("orders", produce).result(timeout_s=10)
        assert raised.wait(10)
        outcomes = app.publish_many("orders", ["x"] * 10).outcomes(timeout_s=10)
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}
    assert "raised by a callable" in caplog.text


def test_an_error_that_nobody_knows_is_retried():
    """New brokers have new errors; they are no reason to give a message up at once."""
    assert report_error(KafkaError(KafkaError.UNKNOWN), topic="t").retryable
