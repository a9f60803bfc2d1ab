"""Delivery to MQTT 5 brokers."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py._internal.tls import NO_CERTIFICATE, demands_certificate
from rambla_py.described import Described
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Handler
from rambla_py.handlers.mqtt.connection import MqttConnection
from rambla_py.handlers.mqtt.encode import EVENT_PREFIX
from rambla_py.handlers.mqtt.settings import Broker, MqttOptions, MqttSettings, broker_of

if TYPE_CHECKING:
    from paho.mqtt.client import Client

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, Promise, State

__all__ = ["MqttHandler"]

_workers = itertools.count(1)


class MqttHandler(Handler[MqttConnection, MqttOptions, MqttSettings]):
    """Publishes to a topic, with as many messages in flight as the broker's receive maximum.

    At least once with ``qos = 1`` (the default) and ``qos = 2``: a message is ok once the broker has
    acknowledged it (PUBACK, PUBCOMP). When the connection is lost between the write and the acknowledgement,
    it may arrive twice, also with ``qos = 2``, because each connection is a session of its own; the user
    property ``id`` is then the same. At most once with ``qos = 0``: ok once the socket has accepted it.

    Headers are user properties: strings unchanged, anything else as JSON. A topic without authorization is
    an ``AccessError``; while the broker's quota is exceeded, messages wait (``UnavailableError``). A packet
    size, a QoS or a retain flag that the broker does not support is fatal without being sent. The result is
    None. The ``destination`` of a callable payload is the connected ``paho.mqtt.client.Client``.

    >>> MqttHandler.Options(topic="shop/orders", qos=2, retain=True).id_property
    'id'
    """

    Connection: ClassVar[Any] = MqttSettings
    Options: ClassVar[Any] = MqttOptions
    takes = "bytes"
    guarantee: ClassVar[str] = (
        "at least once with qos 1 and 2, at most once with qos 0; when the connection is lost between write "
        "and acknowledgement, a message may arrive twice, with the same id in its user property; in sequence "
        "within a worker, except failed messages"
    )

    def __init__(self, settings: MqttSettings, **where: Any) -> None:
        super().__init__(settings, **where)
        # Two containers may have the same process and worker; the broker disconnects the first of one name.
        self._suffix = f"{os.getpid()}-{next(_workers)}-{secrets.token_hex(4)}"

    @classmethod
    def promises(cls, settings: Any, options: Any) -> Promise:
        """Return ``at most once`` for quality of service 0."""
        return "at least once" if options is None or options.qos else "at most once"

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return an empty prefix, as the CloudEvents binding for MQTT requires."""
        return EVENT_PREFIX

    def client_id(self) -> str:
        """Return this worker's client identifier; an empty one lets the broker choose."""
        return f"{self.settings.client_id}-{self._suffix}" if self.settings.client_id else ""

    def describe(self, options: Any) -> Described:
        """Return the broker, and the topic."""
        return Described.of(self, "mqtt", options.topic)

    def connect(self) -> MqttConnection:
        """Connect, log in, and learn the broker's limits."""
        settings: MqttSettings = self.settings
        connection = MqttConnection(
            broker_of(settings),
            channel=self.channel,
            link=self.link,
            client_id=self.client_id(),
            timeout_s=settings.connect_timeout_s,
        )
        try:
            connection.open(settings.keepalive_s)
        except BaseException as error:
            connection.close()
            if _lacked_certificate(error, connection.broker, settings.connect_timeout_s):
                raise AccessError(f"{connection.broker.where}: cannot connect: {NO_CERTIFICATE}") from error
            raise
        return connection

    def close(self, connection: MqttConnection) -> None:
        """Disconnect and end paho's thread."""
        connection.close()

    def ping(self, connection: MqttConnection) -> None:
        """Make a round trip to the broker."""
        connection.ping()

    def preflight(self, connection: MqttConnection, report: Preflight) -> None:
        """Name what a broker tells only of a message."""
        options = self.options if self.options is not None else MqttOptions()
        report.not_checked(f"the right to publish to topic {options.topic or self.channel!r}")

    def destination(self, connection: MqttConnection) -> Client:
        """Return the driver's own client."""
        return connection.client

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State[MqttConnection]) -> None:
        """Hand all to paho; each is settled by its acknowledgement."""
        state.connection.publish(deliveries)


def _lacked_certificate(error: BaseException, broker: Broker, timeout_s: float) -> bool:
    """Return whether a connect failed because the broker demands a client's certificate."""
    if isinstance(error, AccessError) or not isinstance(error, ConnectionLostError) or broker.tls is None:
        return False
    return demands_certificate(broker.tls, broker.host, broker.port, timeout_s=timeout_s)
