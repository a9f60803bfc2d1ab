"""The contract suite on the mqtt handler, on a real broker behind a fault proxy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from proxied_contract import KilledContract
from variants import variant_of

from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, Received, Server, TlsFiles
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.mosquitto import MosquittoServer

_END = b"the end, for the listener"


class Listener:
    """Subscribes to a topic, and keeps what comes, over the broker's death too."""

    def __init__(self, server: MosquittoServer, topic: str) -> None:
        self.server, self.topic, self.heard = server, topic, list[Received]()
        self._gone, self._ended = threading.Event(), threading.Event()
        self._listen()

    def _listen(self) -> None:
        subscribed = threading.Event()
        version = MQTTProtocolVersion.MQTTv5
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version, reconnect_on_failure=False)
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_disconnect = lambda *_: self._gone.set()
        self.client.connect(self.server.host, self.server.port)
        self.client.loop_start()
        # Of QoS 0 a message is sent here before its publisher has an answer. Of a higher one the broker keeps
        # some back until we have answered for others, and takes them with it when it dies.
        self.client.subscribe(self.topic, 0)
        assert subscribed.wait(10)

    def listen_again(self) -> None:
        """Read the last messages of a broker that died, then subscribe to its successor."""
        assert self._gone.wait(10)
        self._end_thread()
        self._gone.clear()
        self._listen()

    def _hear(self, client: Any, userdata: Any, message: Any) -> None:
        if message.payload == _END:
            self._ended.set()
        else:
            found = dict(getattr(message.properties, "UserProperty", []))
            self.heard.append(Received(message.payload, found.get("id")))

    def all_heard(self) -> list[Received]:
        """Return what came, once something sent after all of it has come too."""
        self._ended.clear()
        self.client.publish(self.topic, _END, qos=1)
        assert self._ended.wait(10)
        return self.heard

    def close(self) -> None:
        self.client.disconnect()
        self._end_thread()

    def _end_thread(self) -> None:
        self.client.loop_stop()
        self.client._reset_sockets()  # paho leaves those that wake its thread to the collector


class Mqtt(KilledContract):
    """What the levels of service share."""

    handler = "mqtt"
    answer_bytes = 100
    qos = 1

    @pytest.fixture(autouse=True)
    def _broker(
        self,
        mosquitto: MosquittoServer,
        mosquitto_tls_server: MosquittoServer,
        fault_proxy: Callable[[Server], FaultProxy],
        unique_name: str,
        tls_files: TlsFiles,
    ) -> Iterator[None]:
        self.proxy, self.topic, self.guarded = fault_proxy(mosquitto), unique_name, mosquitto_tls_server
        self.server, self.tls_files = mosquitto, tls_files
        self.listener = Listener(mosquitto, self.topic)
        yield
        self.listener.close()

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"connect_timeout_s": 5}

    def options(self) -> dict[str, Any]:
        return {"topic": self.topic, "qos": self.qos}

    def received(self) -> list[Received]:
        return self.listener.all_heard()

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"host": host, "port": port, "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        where = f"{self.guarded.host}:{self.guarded.port}"
        return {"url": f"mqtts://somebody:{CANARY}@{where}", "tls": {"verify": False}}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        login = {"username": "somebody", "password": "s3cret"}
        return {**self.at(self.guarded.host, self.guarded.port), **login, "tls": tls}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"mqtt://somebody:{CANARY}@{host}:{port}", "connect_timeout_s": 0.5}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return self.connection(), "x" * 1_100_000  # the fixture's limit, and what stands around it

    def kill_and_start(self) -> None:
        self.proxy.refuse()
        self.server.kill()
        self.server.start()
        self.listener.listen_again()  # it hears everything that comes from now on
        self.proxy.accept()
        self.killed += 1

    def poison(self) -> Message:
        return Message("poison", headers={"broken": "\x00"})


class TestMqtt(Mqtt):
    """QoS 1, the default."""


_ANSWERED_BY_LEVEL = (
    DeliveryTests,
    LossTests,
    "test_one_poison_message_in_a_thousand_fails_alone",
    "test_a_payload_over_the_limit_is_fatal_alone",
    "test_a_connection_that_is_cut_leaves_no_socket",
)


@variant_of(TestMqtt, *_ANSWERED_BY_LEVEL, "test_a_message_that_is_never_answered_is_freed")
class TestMqttOnce(Mqtt):
    """QoS 2, with four packets for each message."""

    qos = 2


@variant_of(TestMqtt, *_ANSWERED_BY_LEVEL)
class TestMqttUnconfirmed(Mqtt):
    """QoS 0, which nothing answers: what is ok may still be under way, or lost with the connection."""

    qos = 0
    stores = False  # no subscriber keeps what arrives
    can_silence = False  # what nothing answers is ok all the same

    def cut(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes)

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)
