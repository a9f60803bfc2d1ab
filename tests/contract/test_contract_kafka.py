"""The contract suite on the kafka handler, on a cluster of one broker behind a fault proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from broker_fixtures import require_kafka
from kafka_records import records_of
from proxied_contract import ProxiedContract

from rambla_py.handlers.kafka.connection import KafkaRecord
from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, Received, TlsFiles
from rambla_py.testing.contract_case import SOME
from rambla_py.testing.kafka_cluster import KafkaCluster
from rambla_py.testing.kafka_refusal import KafkaRefusal


class TestKafka(ProxiedContract):
    """Each message is a record, with its id in a header."""

    handler = "kafka"
    answer_bytes = 40  # some hundreds of messages are answered by two or three reports
    mid_batch_bytes = 5_000
    answer_s = 2.0  # the driver waits half a second for the id of its producer

    @pytest.fixture(autouse=True)
    def _cluster(self, unique_name: str) -> Iterator[None]:
        require_kafka()
        self.killed = 0
        with KafkaCluster(brokers=1) as self.cluster:
            self.topic = unique_name
            self.cluster.create_topic(self.topic, partitions=2)
            host, port = self.cluster.servers.split(":")
            with FaultProxy(host, int(port)) as self.proxy:
                self.cluster.advertise(1, *self.proxy.address)
                yield

    def connection(self) -> dict[str, Any]:
        return self.at(*self.proxy.address) | {"connect_timeout_s": 2}

    def options(self) -> dict[str, Any]:
        return {"topic": self.topic}

    def is_result(self, result: Any) -> bool:
        return isinstance(result, KafkaRecord) and result.topic == self.topic and result.offset >= 0

    def received(self) -> list[Received]:
        return [
            Received(record.value(), dict(record.headers())["id"].decode())
            for record in records_of(self.cluster, self.topic)
        ]

    def poison(self) -> Message:
        return Message("poison", partition=99)

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {
            "servers": f"{host}:{port}",
            "connect_timeout_s": 0.5,
            "max_message_bytes": 1_500_000,
            "outage_s": 0.5,
        }

    @pytest.fixture(autouse=True)
    def _stranger(self) -> Iterator[None]:
        with KafkaRefusal() as self.refusal:
            yield

    def wrong_password(self) -> dict[str, Any]:
        return self.secret_at("127.0.0.1", self.refusal.port)

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return self.at(host, port) | {"username": "somebody", "password": CANARY}

    @pytest.fixture(autouse=True)
    def _front(self, _cluster: None, strange_tls_files: TlsFiles) -> Iterator[None]:
        self.authority = str(strange_tls_files.authority)
        with FaultProxy(*self.proxy.address, tls=strange_tls_files) as self.front:
            yield

    def wrong_name(self) -> dict[str, Any]:
        return self.at(*self.front.address) | {"tls": {"ca_file": self.authority}}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        # Not over the limit by itself: the id and the record around it count.
        return {**self.connection(), "max_message_bytes": 10_000}, "x" * 10_000

    def test_a_loss_is_reported_where_unknown_is_not_retried(self) -> None:
        """Each is attempted once, and what is ok has arrived.

        It may be there twice: librdkafka sends again what had no answer, with its sequence number. Brokers
        know it by that; those of the test, which only pretend to be some, append it.
        """
        with self.trial(on_unknown="report") as trial:
            outcomes, ends = self.publish_over_a_cut(trial)
            assert {outcome.status for outcome in outcomes} <= {"ok", "unknown"}
            assert {outcome.attempts for outcome in outcomes} == {1}
            assert set(ends.values()) == {1}
            assert len(ends) == SOME
            self.check_nothing_missing([outcome for outcome in outcomes if outcome.status == "ok"])

    def silence(self) -> None:
        self.proxy.black_hole()

    def die(self) -> None:
        self.proxy.cut_after(self.answer_bytes, direction="down", then=self._down_and_up)

    def _down_and_up(self) -> None:
        self.cluster.down()
        self.cluster.up()
        self.killed += 1

    def deaths(self) -> int:
        return self.killed
