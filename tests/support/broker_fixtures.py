"""Fixtures of the brokers beside RabbitMQ and Redis: Kafka, NATS, MQTT."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server_fixtures import mend_used, require

from rambla_py.testing.kafka_cluster import KafkaCluster
from rambla_py.testing.mosquitto import MosquittoServer
from rambla_py.testing.nats_server import NatsServer
from rambla_py.testing.servers import TlsFiles


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaCluster]:
    """A Kafka cluster of the test's own: three brokers that can be made to fail."""
    require_kafka()
    with KafkaCluster(brokers=3) as cluster:
        yield cluster


def require_kafka() -> None:
    """Skip the test when the library is missing; under CI fail it."""
    require(KafkaCluster, "the package")


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """The run's NATS with JetStream. A test may kill or pause it: it is mended."""
    require(NatsServer)
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def nats_tls_server(tls_files: TlsFiles) -> Iterator[NatsServer]:
    """A NATS that takes TLS only, and wants the user ``somebody`` with the password ``s3cret``."""
    require(NatsServer)
    with NatsServer(password="s3cret", tls=tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[MosquittoServer]:
    """The run's Mosquitto, open to anybody, for packets of 1,100,000 bytes at most.

    A test may kill or pause it: it is mended.
    """
    require(MosquittoServer)
    with MosquittoServer(config=["max_packet_size 1100000"]) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto_tls_server(tls_files: TlsFiles) -> Iterator[MosquittoServer]:
    """A Mosquitto that takes TLS only, and wants the user ``somebody`` with the password ``s3cret``."""
    require(MosquittoServer)
    with MosquittoServer(password="s3cret", tls=tls_files) as server:
        yield server


@pytest.fixture(autouse=True)
def _brokers_mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Mend after each test the brokers that it may have broken."""
    yield
    mend_used(request, "nats_server", "nats_tls_server", "mosquitto", "mosquitto_tls_server")
