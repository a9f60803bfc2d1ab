"""This module is paho's client with what it leaves out of MQTT 5."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from rambla_py.handlers.mqtt.errors import FAILURE
from rambla_py.handlers.mqtt.settings import Broker
from rambla_py.tls import client_context

__all__ = ["MqttClient", "client_for"]


class MqttClient(Client):
    """A client that never reconnects by itself.

    It relies on a few names inside paho, which the live tests hold: ``_handle_pubrec``, ``_in_packet``,
    ``_do_on_publish``, ``_ssl_wrap_socket`` and ``_max_inflight_messages``.
    """

    def __init__(self, client_id: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self.server_name: str | None = None

    def respect(self, receive_maximum: int) -> None:
        """Have no more messages of QoS 1 and 2 in flight than the broker takes; paho would send 20."""
        self._max_inflight_messages = receive_maximum

    def _handle_pubrec(self) -> MQTTErrorCode:
        """Take a PUBREC that refuses the message as its end; paho would go on as if it had been taken."""
        packet = self._in_packet["packet"]
        code = packet[2] if len(packet) > 2 else 0
        if code < FAILURE:
            return super()._handle_pubrec()
        number = int.from_bytes(packet[:2], "big")
        with self._out_message_mutex:
            if number not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            reason = ReasonCode(PacketTypes.PUBREC, identifier=code)
            return self._do_on_publish(number, reason, Properties(PacketTypes.PUBREC))

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        context: Any = self._ssl_context
        name = self.server_name or self._host
        wrapped: ssl.SSLSocket = context.wrap_socket(
            tcp_sock, server_hostname=name, do_handshake_on_connect=False
        )
        try:
            wrapped.settimeout(self.connect_timeout)
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def client_for(broker: Broker, *, client_id: str, timeout_s: float) -> MqttClient:
    """Return a client that has not connected yet; raises ``AccessError`` for files that cannot be used."""
    client = MqttClient(client_id)
    client.connect_timeout = timeout_s
    client.max_queued_messages = 0
    if broker.username is not None or broker.password is not None:
        client.username_pw_set(broker.username or "", broker.password)
    if broker.tls is not None:
        client.tls_set_context(client_context(broker.tls, broker.where))
        client.server_name = broker.tls.server_name
    return client
