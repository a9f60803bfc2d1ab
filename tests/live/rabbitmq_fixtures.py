"""A view of what arrived in RabbitMQ, and a RabbitMQ with tight limits."""

from __future__ import annotations

from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from server_fixtures import mend_used, require

from rambla_py.testing.servers import RabbitMqServer, TlsFiles


@pytest.fixture
def plain(rabbitmq: RabbitMqServer) -> Iterator[BlockingChannel]:
    """A channel of pika's own, to look at what arrived."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture(scope="session")
def strict_rabbitmq(tls_files: TlsFiles) -> Iterator[RabbitMqServer]:
    """A RabbitMQ that takes 100,000 bytes a message, and over TLS demands a client certificate."""
    require(RabbitMqServer)
    config = ["ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true"]
    with RabbitMqServer(tls=tls_files, config=[*config, "max_message_size = 100000"]) as server:
        yield server


@pytest.fixture(autouse=True)
def _rabbitmq_mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Mend after each test the broker that it may have broken."""
    yield
    mend_used(request, "strict_rabbitmq")
