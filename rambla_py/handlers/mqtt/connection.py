"""A connection to an MQTT broker with many messages in flight."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paho.mqtt.enums import MQTTErrorCode

from rambla_py.errors import ConnectionLostError, PayloadTooLargeError, PermanentError
from rambla_py.handlers._encoding import encoding_error
from rambla_py.handlers.mqtt.encode import checked_topic, packet_size, properties_of
from rambla_py.handlers.mqtt.errors import FAILURE, connect_error, lost_error, publish_error, refusal
from rambla_py.handlers.mqtt.paho_private import MqttClient, client_for
from rambla_py.handlers.mqtt.settings import Broker

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["MqttConnection"]

_GOODBYE_S = 1.0
_ROOM_S = 0.1
_MAX_PACKET_BYTES = 268_435_455
_MAX_IN_FLIGHT = 65_535
_UNSPECIFIED = 0x80
_NO_SUBSCRIPTION = "rambla/ping"


class MqttConnection:
    """A live connection: ``publish`` runs on the worker's thread, outcomes come from paho's.

    paho reports a packet's number, perhaps before ``publish`` has returned that number: whichever comes
    second settles the delivery. While the interpreter exits there is no such thread: then each method runs
    paho's loop until it has what it waits for, and ``publish`` until all is acknowledged.
    """

    def __init__(self, broker: Broker, *, channel: str, link: Link, client_id: str, timeout_s: float) -> None:
        self.broker = broker
        self._channel, self._link, self._timeout_s = channel, link, timeout_s
        self._pid = os.getpid()
        self._waiting: dict[int, tuple[Delivery, str]] = {}
        self._early: dict[int, int] = {}
        self._room = threading.Event()
        self._answered = threading.Event()
        self._pong = threading.Event()
        self._refused: ConnectionLostError | None = None
        self._lost: ConnectionLostError | None = None
        self._up = self._closed = False
        self._has_thread = True
        self._max_packet = _MAX_PACKET_BYTES
        self._max_qos, self._retains = 2, True
        self._client = client_for(broker, client_id=client_id, timeout_s=timeout_s)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_thread_end = self._on_thread_end

    def __repr__(self) -> str:
        lost = ", lost" if self._lost else ""
        return f"<MqttConnection {self.broker.where} in flight={len(self._waiting)}{lost}>"

    @property
    def client(self) -> MqttClient:
        """The driver's own object, connected."""
        return self._client

    def open(self, keepalive_s: int) -> None:
        """Connect and log in; raises ``ConnectionLostError`` or ``AccessError``."""
        where = self.broker.where
        try:
            self._client.connect(self.broker.host, self.broker.port, keepalive_s, clean_start=True)
        except (OSError, ValueError) as error:
            raise connect_error(error, where, timeout_s=self._timeout_s) from error
        self._has_thread = self._client.start_thread()
        if not self._wait(self._answered, self._timeout_s):
            raise connect_error(TimeoutError(), where, timeout_s=self._timeout_s)
        if self._refused is not None:
            raise self._refused

    def ping(self) -> None:
        """Make a round trip; raises ``ConnectionLostError`` when no answer arrives in time.

        paho does not expose MQTT's own pings. An UNSUBSCRIBE without a subscription changes nothing, needs
        no permission, and is answered.
        """
        self._check()
        self._pong.clear()
        try:
            self._client.unsubscribe(_NO_SUBSCRIPTION)
        except OSError as error:  # the thread closed its sockets meanwhile
            raise lost_error(error, self.broker.where, "the connection was lost") from None
        if not self._wait(self._pong, self._timeout_s):
            raise ConnectionLostError(
                f"{self.broker.where} did not answer a ping within {self._timeout_s:g} s"
            )
        self._check()

    def _wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait until paho reports something; return whether it did so in time."""
        if self._has_thread:
            return event.wait(timeout_s)
        deadline = time.monotonic() + timeout_s
        while not event.is_set() and (left := deadline - time.monotonic()) > 0:
            self._client.run_loop(left)
        return event.is_set()

    def _check(self) -> None:
        """Raise when the connection is gone."""
        if self._lost is not None:
            raise self._lost

    def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Hand the deliveries to paho; one that MQTT or the broker cannot accept fails alone."""
        for delivery in deliveries:
            try:
                self._publish_one(delivery)
            except OSError as error:
                delivery.failed(lost_error(error, self.broker.where, "the connection was lost"))
            except Exception as error:  # what a payload's own code raises fails its message alone
                delivery.failed(encoding_error(error))
        if not self._has_thread:
            self._await_acknowledgements()

    def _await_acknowledgements(self) -> None:
        while self._waiting and self._lost is None and not self._closed:
            self._room.clear()
            if not self._wait(self._room, self._timeout_s):
                self._end(lost_error(TimeoutError(), self.broker.where, "no message was acknowledged"))

    def close(self) -> None:
        """Send DISCONNECT and close, within a moment; may be called twice, from any thread."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._room.set()
        self._client.on_publish = None
        self._answered.clear()  # set since the CONNACK; the end of the connection sets it again
        if self._up and self._lost is None:
            self._client.disconnect()
            self._wait(self._answered, _GOODBYE_S)
        # The thread ends with its socket, even if something is still to be written, and closes it.
        opened: Any = self._client.socket()
        if opened is not None:
            with suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
        if self._client.loop_stop() != MQTTErrorCode.MQTT_ERR_SUCCESS:  # connect raised: there is no thread
            self._client.close_sockets()

    # -- publishing ---------------------------------------------------------------------------------------

    def _publish_one(self, delivery: Delivery) -> None:
        options, body = delivery.options, delivery.body()
        topic: str = options.topic or self._channel
        encoded = checked_topic(topic)
        self._check_options(options)
        properties = properties_of(delivery)
        size = packet_size(encoded, properties, len(body))
        if size > self._max_packet:
            raise PayloadTooLargeError(size, self._max_packet, "the broker's maximum packet size")
        # What is left there belongs to messages of a callable that used this client; numbers are reused.
        self._early.clear()
        while True:
            self._room.clear()
            self._check()
            sent = self._client.publish(topic, body, options.qos, options.retain, properties)
            if sent.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                break
            self._wait(self._room, _ROOM_S)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._lost or ConnectionLostError(
                f"{self.broker.where}: the connection is gone ({sent.rc})"
            )
        self._waiting[sent.mid] = delivery, topic
        early = self._early.pop(sent.mid, None)
        if early is not None:
            self._settle(sent.mid, early)

    def _check_options(self, options: Any) -> None:
        """Raise for options over which this broker would close the connection."""
        if options.qos > self._max_qos:
            raise PermanentError(f"{self.broker.where} accepts QoS up to {self._max_qos}, got {options.qos}")
        if options.retain and not self._retains:
            raise PermanentError(f"{self.broker.where} does not retain messages; set retain = false")

    # -- paho's thread --------------------------------------------------------------------------------------

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.value >= FAILURE:
            self._refused = refusal(reason.value, self.broker.where, "cannot connect")
        else:
            self._client.limit_in_flight(getattr(properties, "ReceiveMaximum", _MAX_IN_FLIGHT))
            self._max_packet = getattr(properties, "MaximumPacketSize", _MAX_PACKET_BYTES)
            self._max_qos = getattr(properties, "MaximumQoS", 2)
            self._retains = bool(getattr(properties, "RetainAvailable", 1))
            self._up = True
        self._answered.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        where = self.broker.where
        if flags.is_disconnect_packet_from_server:
            self._end(refusal(reason.value, where, "the broker closed the connection"))
        elif self._up:
            self._end(lost_error(self._client.cause, where, "the connection was lost"))
        else:
            during = "cannot connect: no answer to CONNECT; does the broker support MQTT 5?"
            self._end(lost_error(self._client.cause, where, during))

    def _on_thread_end(self, cause: BaseException | None) -> None:
        """Report the end of paho's thread, after which nothing is acknowledged any more."""
        during = "the connection was lost" if self._up else "cannot connect"
        self._end(lost_error(cause, self.broker.where, during))

    def _end(self, error: ConnectionLostError) -> None:
        """Record the end of the connection once, and wake all that wait for an answer."""
        first = self._lost is None
        self._lost = self._lost or error
        self._refused = self._refused or (None if self._up else error)
        self._answered.set()
        self._pong.set()
        self._room.set()
        if first and self._up and not self._closed:
            self._link.lost(error)

    def _on_unsubscribe(self, client: Any, userdata: Any, number: int, reasons: Any, properties: Any) -> None:
        self._pong.set()

    def _on_publish(self, client: Any, userdata: Any, number: int, reason: Any, properties: Any) -> None:
        self._early[number] = reason.value
        if number in self._waiting:
            self._early.pop(number, None)
            self._settle(number, reason.value)
        self._room.set()

    def _settle(self, number: int, code: int) -> None:
        found = self._waiting.pop(number, None)
        if found is None:
            return
        delivery, topic = found
        if code < FAILURE:
            delivery.ok()
        elif self._lost is not None and code == _UNSPECIFIED:
            delivery.unknown(str(self._lost))
        else:
            delivery.failed(publish_error(code, self.broker.where, topic))
