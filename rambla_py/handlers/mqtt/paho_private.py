"""The client of paho-mqtt, with its private parts.

The parts are ``_do_on_publish``, ``_handle_connack``, ``_handle_pubrec``, ``_host``, ``_in_packet``,
``_loop_rc_handle``, ``_max_inflight_messages``, ``_out_message_mutex``, ``_out_messages``,
``_packet_handle``, ``_packet_read``, ``_reset_sockets``, ``_sock``, ``_sock_recv``, ``_ssl_context``,
``_ssl_wrap_socket``, ``_thread`` and ``_thread_main``; a test fails by name when one is gone.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from rambla_py._internal.tls import client_context
from rambla_py.handlers.mqtt.errors import FAILURE, OldProtocolError
from rambla_py.handlers.mqtt.settings import Broker

__all__ = ["MqttClient", "client_for"]

_OLD_CONNACK_BYTES = 2
_LONGEST_S = 2_000_000.0
"""Sockets accept no longer time-out: the system counts milliseconds in 31 bits."""


_ACKNOWLEDGEMENTS: Final = frozenset(kind << 4 for kind in (PacketTypes.PUBACK, PacketTypes.PUBCOMP))
"""First bytes of the packets that end a message."""


class MqttClient(Client):
    """A client that never reconnects, and reports why its thread or its socket ended.

    ``on_thread_end`` is called by the thread as it ends, with the exception that ended it, or None; without a
    thread by ``run_loop``.
    ``cause`` is what reading from the socket, or reading a packet, raised.
    """

    def __init__(self, client_id: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self.server_name: str | None = None
        self.cause: Exception | None = None
        self._reads_rest = False
        self.on_thread_end: Callable[[BaseException | None], None] = lambda error: None

    def limit_in_flight(self, receive_maximum: int) -> None:
        """Have at most this many messages of QoS 1 and 2 in flight; paho's own limit is 20."""
        self._max_inflight_messages = receive_maximum

    def start_thread(self) -> bool:
        """Start paho's thread; False if the interpreter exits: Python 3.12 and later then start none."""
        try:
            self.loop_start()
        except RuntimeError:
            self._thread = None
            return False
        return True

    def run_loop(self, timeout_s: float) -> None:
        """Do what paho's thread would do, on this one: read and write what can be within ``timeout_s``."""
        cause: Exception | None = None
        try:
            if self.loop(timeout_s) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                return
        except Exception as error:
            cause = error
        self.close_sockets()
        self.on_thread_end(cause)

    def _thread_main(self) -> None:
        cause: BaseException | None = None
        try:
            super()._thread_main()
        except BaseException as error:
            cause = error
        finally:
            self.close_sockets()
            self.on_thread_end(cause)

    def close_sockets(self) -> None:
        """Close the connection, and the sockets that wake the thread, which paho leaves to the collector.

        For the thread itself, or once it has ended or was never started.
        """
        self._reset_sockets()

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self.cause = error  # paho only logs it
            raise

    def _loop_rc_handle(self, rc: MQTTErrorCode) -> MQTTErrorCode:
        if rc:
            self._read_rest()
        return super()._loop_rc_handle(rc)

    def _read_rest(self) -> None:
        """Read the acknowledgements that came before the connection ended; paho would close without them."""
        if not self._reads_rest:
            self._reads_rest = True
            while self._sock is not None and self._packet_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass

    def _packet_handle(self) -> MQTTErrorCode:
        """Take a reason code that paho does not know, for which it raises, as the end of its message.

        Mosquitto sends one of them: 0x95 for a message over its ``message_size_limit``.
        """
        try:
            return super()._packet_handle()
        except Exception as error:
            packet = self._in_packet["packet"]
            if (
                self._in_packet["command"] in _ACKNOWLEDGEMENTS
                and _refuses(packet)
                and not _is_known(packet[2])
            ):
                return self._refuse(packet)
            self.cause = error
            raise

    def _handle_connack(self) -> MQTTErrorCode:
        """Recognize the CONNACK of MQTT 3.1.1, which has no properties; paho would read past its end."""
        packet = self._in_packet["packet"]
        if len(packet) == _OLD_CONNACK_BYTES:
            raise OldProtocolError(packet[1])
        return super()._handle_connack()

    def _handle_pubrec(self) -> MQTTErrorCode:
        """Take a PUBREC that refuses the message as its end; paho would send PUBREL for it."""
        packet = self._in_packet["packet"]
        return self._refuse(packet) if _refuses(packet) else super()._handle_pubrec()

    def _refuse(self, packet: bytes | bytearray) -> MQTTErrorCode:
        """End the message that a packet refuses, with its code."""
        number = int.from_bytes(packet[:2], "big")
        with self._out_message_mutex:
            if number not in self._out_messages:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            reason = ReasonCode(PacketTypes.PUBACK, "Unspecified error")
            reason.value = packet[2]
            return self._do_on_publish(number, reason, Properties(PacketTypes.PUBACK))

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        context: Any = self._ssl_context
        name = self.server_name or self._host
        try:
            wrapped: ssl.SSLSocket = context.wrap_socket(
                tcp_sock, server_hostname=name, do_handshake_on_connect=False
            )
        except BaseException:
            tcp_sock.close()
            raise
        try:
            wrapped.settimeout(self.connect_timeout)
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def client_for(broker: Broker, *, client_id: str, timeout_s: float) -> MqttClient:
    """Return a client that is not connected; raises ``AccessError`` for files that cannot be used."""
    client = MqttClient(client_id)
    client.connect_timeout = min(timeout_s, _LONGEST_S)
    client.max_queued_messages = 0
    if broker.username is not None or broker.password is not None:
        client.username_pw_set(broker.username or "", broker.password)
    if broker.tls is not None:
        client.tls_set_context(client_context(broker.tls, broker.where))
        client.server_name = broker.tls.server_name
    return client


def _refuses(packet: bytes | bytearray) -> bool:
    """Return whether an acknowledgement has a reason code that refuses its message."""
    return len(packet) > 2 and packet[2] >= FAILURE


def _is_known(code: int) -> bool:
    try:
        ReasonCode(PacketTypes.PUBACK, identifier=code)
    except (KeyError, ValueError):  # of any packet, or of an acknowledgement
        return False
    return True
