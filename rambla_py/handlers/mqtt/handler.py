"""This module delivers to brokers of MQTT 5."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.mqtt.packets import EVENT_PREFIX
from rambla_py.handlers.mqtt.settings import MqttOptions, MqttSettings, broker_of
from rambla_py.handlers.mqtt.wire import MqttWire

if TYPE_CHECKING:
    from paho.mqtt.client import Client

    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["MqttHandler"]

_workers = itertools.count(1)


class MqttHandler(Handler):
    """Publishes to a topic, many messages in flight at a time, as many as the broker's receive maximum.

    At least once with ``qos = 1`` (the default) and ``qos = 2``: a message is ok when the broker has
    acknowledged it (PUBACK, PUBCOMP). After a loss between the write and the acknowledgement it may come
    twice, with ``qos = 2`` too, for each connection is a session of its own; the user property ``id`` is
    then the same. At most once with ``qos = 0``: ok when the socket has taken it.

    Headers are user properties: text as it is, anything else as JSON. The broker's reason codes are mapped:
    not authorized for a topic is fatal, quota exceeded is retried. What the broker says that it does not
    take (packet size, QoS, retain) is fatal before it is sent. The result is None. A callable payload is
    given the connected ``paho.mqtt.client.Client``.

    >>> MqttHandler.Options(topic="shop/orders", qos=2, retain=True).id_property
    'id'
    """

    Connection: ClassVar[Any] = MqttSettings
    Options: ClassVar[Any] = MqttOptions
    guarantee: ClassVar[str] = (
        "at least once with qos 1 and 2, at most once with qos 0; after a loss between write and "
        "acknowledgement a message may come twice, with the same id in its user property; in sequence "
        "within a worker, failed messages aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        # Two containers may have the same process and worker: the broker throws out the first of one name.
        self._suffix = f"{os.getpid()}-{next(_workers)}-{secrets.token_hex(4)}"

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return no prefix, as the binding of CloudEvents for MQTT has it."""
        return EVENT_PREFIX

    def client_id(self) -> str:
        """Return this worker's name at the broker; empty where the broker is to choose one."""
        return f"{self.settings.client_id}-{self._suffix}" if self.settings.client_id else ""

    def connect(self) -> MqttWire:
        """Connect, log in, and hear what the broker takes."""
        settings: MqttSettings = self.settings
        wire = MqttWire(
            broker_of(settings),
            channel=self.channel,
            link=self.link,
            client_id=self.client_id(),
            timeout_s=settings.connect_timeout_s,
        )
        try:
            wire.open(settings.keepalive_s)
        except BaseException:
            wire.close()
            raise
        return wire

    def close(self, connection: MqttWire) -> None:
        """Say goodbye and end paho's thread."""
        connection.close()

    def ping(self, connection: MqttWire) -> None:
        """Make a round trip to the broker."""
        connection.ping()

    def destination(self, connection: MqttWire) -> Client:
        """Return the driver's own client."""
        return connection.client

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand all to paho; each is settled by its acknowledgement."""
        state.connection.publish(deliveries)
