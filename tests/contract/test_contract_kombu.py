"""The contract suite on the kombu handler, on four of its transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import kombu
import pytest
from proxied_contract import KilledContract
from variants import variant_of

from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, RabbitMqServer, Received, RedisServer, Server, TlsFiles
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.reach import ReachTests


class Kombu(KilledContract):
    """What the transports share: a queue, read with kombu itself."""

    handler = "kombu"
    # In this process, or in a folder of it, there is nobody to reach, to log in to, to go silent or to die.
    has_server = has_address = has_login = has_tls = has_secrets = False
    can_cut = can_silence = can_die = False

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

    def poison(self) -> Message:
        return Message("poison", exchange="no-such-exchange")

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_message_bytes": 10_000}, "x" * 10_001


class TestKombuAmqp(Kombu):
    """RabbitMQ, with a confirm for each message."""

    has_server = has_address = has_login = has_tls = has_secrets = True
    can_cut = can_silence = can_die = True

    @pytest.fixture(autouse=True)
    def _broker(
        self, rabbitmq: RabbitMqServer, fault_proxy: Callable[[Server], FaultProxy], tls_files: TlsFiles
    ) -> Iterator[None]:
        self.server, self.proxy, self.tls_files = rabbitmq, fault_proxy(rabbitmq), tls_files
        self.tls_url, self.sync = rabbitmq.tls_url, rabbitmq.sync
        yield
        with kombu.Connection(rabbitmq.url) as connection:
            kombu.Queue(self.queue).bind(connection.channel()).delete()

    def poison(self) -> Message:
        # An exchange that is missing is for an operator, and the message waits for it.
        return Message("poison", headers={"weight": 1 << 70})

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"connect_timeout_s": 5}

    def reader(self) -> dict[str, Any]:
        return {"hostname": self.server.url}

    def at(self, host: str, port: int) -> dict[str, Any]:
        url = f"amqp://guest:guest@{host}:{port}//"
        return {"url": url, "connect_timeout_s": 0.5, "answer_timeout_s": 1}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"amqp://guest:{CANARY}@{self.server.host}:{self.server.port}//"}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {"url": self.tls_url, "tls": tls}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "url": f"amqp://guest:{CANARY}@{host}:{port}//"}

    def die(self) -> None:
        self.sync()
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)


class TestKombuRedis(Kombu):
    """A list of Redis, pushed to."""

    has_server = has_address = has_login = has_tls = has_secrets = True
    can_cut = can_silence = can_die = True
    answer_bytes = 100

    @pytest.fixture(autouse=True)
    def _server(
        self, redis_server: RedisServer, fault_proxy: Callable[..., FaultProxy], strange_tls_files: TlsFiles
    ) -> None:
        self.server, self.proxy = redis_server, fault_proxy(redis_server)
        self.authority = str(strange_tls_files.authority)
        self.stranger = fault_proxy(redis_server, tls=strange_tls_files)

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"connect_timeout_s": 5}

    def reader(self) -> dict[str, Any]:
        return {"hostname": self.server.url}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"redis://{host}:{port}/0", "connect_timeout_s": 0.5, "answer_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"redis://somebody:{CANARY}@{self.server.host}:{self.server.port}/0"}

    def wrong_name(self) -> dict[str, Any]:
        return {**self.at(*self.stranger.address), "tls": {"ca_file": self.authority}}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "url": f"redis://somebody:{CANARY}@{host}:{port}/0"}


@variant_of(TestKombuAmqp, DeliveryTests, PayloadTests)
class TestKombuMemory(Kombu):
    """The transport that lives in this process."""

    def connection(self) -> dict[str, Any]:
        return {"url": "memory://"}


@variant_of(TestKombuAmqp, DeliveryTests, PayloadTests, ReachTests)
class TestKombuFiles(Kombu):
    """A file for each message."""

    has_server = True  # a folder may be away, too

    def hang_up(self) -> None:
        """Do nothing: there is no proxy."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def connection(self) -> dict[str, Any]:
        return {"url": "filesystem://", "transport_options": self.folders()}

    def unreachable(self) -> dict[str, Any]:
        away = str(self.folder / "away")
        options = {**self.folders(), "data_folder_in": away, "data_folder_out": away}
        return {"url": "filesystem://", "transport_options": options}

    def folders(self) -> dict[str, str]:
        where = str(self.folder)
        return {"data_folder_in": where, "data_folder_out": where, "control_folder": where}

    def reader(self) -> dict[str, Any]:
        return {"hostname": "filesystem://", "transport_options": self.folders()}
