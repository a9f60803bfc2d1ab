"""This module holds the kombu handler to the contract, on four of its transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import kombu
import pytest

from rambla_py.testing import (
    CANARY,
    FaultProxy,
    HandlerContract,
    RabbitMqServer,
    Received,
    RedisServer,
    Server,
)

_LIMIT = 1_200_000


class Kombu(HandlerContract):
    """What the transports share: a queue, read with kombu itself."""

    handler = "kombu"
    has_address = has_login = can_cut = has_server = False

    @pytest.fixture(autouse=True)
    def _queue(self, unique_name: str) -> None:
        self.queue, self.found = unique_name, list[Received]()

    def options(self) -> dict[str, Any]:
        return {"queue": self.queue}

    def reader(self) -> dict[str, Any]:
        """Return the arguments of the connection that reads what arrived."""
        return {"hostname": self.connection()["url"]}

    def received(self) -> list[Received]:
        found = self.found  # what is read is gone from its queue
        with kombu.Connection(**self.reader()) as connection:
            queue = kombu.Queue(self.queue, kombu.Exchange(""), routing_key=self.queue)
            bound = queue.bind(connection.channel())
            while True:
                try:
                    message = bound.get(no_ack=True)
                except Empty:
                    return found
                if message is None:
                    return found
                body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
                found.append(Received(body, message.properties["message_id"]))

    def poison(self) -> bytes:
        return b"x" * (_LIMIT + 1)

    def limited(self, **connection: Any) -> dict[str, Any]:
        return {"max_message_bytes": _LIMIT, **connection}


class TestKombuMemory(Kombu):
    """The transport that lives in this process."""

    def connection(self) -> dict[str, Any]:
        return self.limited(url="memory://")


class TestKombuFiles(Kombu):
    """A file for each message."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def connection(self) -> dict[str, Any]:
        return self.limited(url="filesystem://", transport_options=self.folders())

    def folders(self) -> dict[str, str]:
        where = str(self.folder)
        return {"data_folder_in": where, "data_folder_out": where, "control_folder": where}

    def reader(self) -> dict[str, Any]:
        return {"hostname": "filesystem://", "transport_options": self.folders()}


class TestKombuAmqp(Kombu):
    """RabbitMQ, with a confirm for each message."""

    has_address = has_login = can_cut = has_server = True

    @pytest.fixture(autouse=True)
    def _broker(
        self, rabbitmq: RabbitMqServer, fault_proxy: Callable[[Server], FaultProxy]
    ) -> Iterator[None]:
        self.broker, self.proxy = rabbitmq, fault_proxy(rabbitmq)
        yield
        with kombu.Connection(rabbitmq.url) as connection:
            kombu.Queue(self.queue).bind(connection.channel()).delete()

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"connect_timeout_s": 5}

    def reader(self) -> dict[str, Any]:
        return {"hostname": self.broker.url}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return self.limited(
            url=f"amqp://guest:guest@{host}:{port}//", connect_timeout_s=0.5, answer_timeout_s=1
        )

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"amqp://guest:{CANARY}@{self.broker.host}:{self.broker.port}//"}

    def cut(self) -> None:
        self.proxy.cut_after(300, direction="down")
        self.proxy.cut_after(20_000)

    def cuts(self) -> int:
        return self.proxy.cuts


class TestKombuRedis(Kombu):
    """A list of Redis, pushed to."""

    has_address = has_login = can_cut = has_server = True

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer, fault_proxy: Callable[[Server], FaultProxy]) -> None:
        self.server, self.proxy = redis_server, fault_proxy(redis_server)

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"connect_timeout_s": 5}

    def reader(self) -> dict[str, Any]:
        return {"hostname": self.server.url}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return self.limited(url=f"redis://{host}:{port}/0", connect_timeout_s=0.5, answer_timeout_s=0.5)

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"redis://somebody:{CANARY}@{self.server.host}:{self.server.port}/0"}

    def cut(self) -> None:
        self.proxy.cut_after(100, direction="down")
        self.proxy.cut_after(20_000)

    def cuts(self) -> int:
        return self.proxy.cuts
