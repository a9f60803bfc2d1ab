"""This module holds the mqtt handler to the contract, on a real broker behind a fault proxy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from proxied_contract import ProxiedContract

from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, Received, Server
from rambla_py.testing.mosquitto import MosquittoServer

_END = b"the end, for the listener"


class Listener:
    """Subscribes to a topic, and keeps what comes."""

    def __init__(self, server: MosquittoServer, topic: str) -> None:
        self.topic, self.heard = topic, list[Received]()
        self._subscribed, self._ended = threading.Event(), threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect(server.host, server.port)
        self.client.loop_start()
        self.client.subscribe(topic, 1)  # of QoS 2, what was sent last could overtake
        assert self._subscribed.wait(10)

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
        self.client.loop_stop()


class Mqtt(ProxiedContract):
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
    ) -> Iterator[None]:
        self.proxy, self.topic, self.guarded = fault_proxy(mosquitto), unique_name, mosquitto_tls_server
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

    def poison(self) -> Message:
        return Message("poison", headers={"broken": "\x00"})


class TestMqttOnce(Mqtt):
    """QoS 2, with four packets for each message."""

    qos = 2


class TestMqtt(Mqtt):
    """QoS 1, the default."""


class TestMqttUnconfirmed(Mqtt):
    """QoS 0, which nothing answers: what is ok may still be under way, or lost with the connection."""

    qos = 0
    stores = can_cut = False
