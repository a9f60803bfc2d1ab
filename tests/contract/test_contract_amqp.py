"""The contract suite on the amqp handler, on a real broker behind a fault proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from proxied_contract import KilledContract

from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, RabbitMqServer, Received, Server, TlsFiles


class TestAmqp(KilledContract):
    """Messages go to a queue of the test's own, by the default exchange."""

    handler = "amqp"
    carries_events = True

    @pytest.fixture(autouse=True)
    def _server(
        self,
        rabbitmq: RabbitMqServer,
        fault_proxy: Callable[[Server], FaultProxy],
        queue_name: str,
        tls_files: TlsFiles,
    ) -> Iterator[None]:
        self.proxy, self.queue = fault_proxy(rabbitmq), queue_name
        self.server, self.tls_files = rabbitmq, tls_files
        self.url = rabbitmq.url
        self.arrived: list[Received] = []
        yield
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            connection.channel().queue_delete(self.queue)

    def connection(self) -> dict[str, Any]:
        return {"host": self.proxy.host, "port": self.proxy.port}

    def options(self) -> dict[str, Any]:
        return {"routing_key": self.queue, "declare": {"queue": {"name": self.queue}}}

    def received(self) -> list[Received]:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(self.queue, auto_ack=True)
                if method is None:
                    return self.arrived
                self.arrived.append(Received(body, properties.message_id, properties.headers))

    def poison(self) -> Message:
        return Message("poison", routing_key="no-such-queue")

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"host": host, "port": port, "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"amqp://guest:{CANARY}@{self.proxy.host}:{self.proxy.port}/%2f"}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"amqp://guest:{CANARY}@{host}:{port}/%2f", "connect_timeout_s": 0.5}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {"url": self.server.tls_url, "tls": tls}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_message_bytes": 10_000}, "x" * 10_001

    def die(self) -> None:
        self.server.sync()
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)
