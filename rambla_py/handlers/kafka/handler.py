"""This module delivers to Kafka, and to any cluster that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.kafka.records import EVENT_PREFIX
from rambla_py.handlers.kafka.settings import KafkaOptions, KafkaSettings
from rambla_py.handlers.kafka.wire import KafkaWire

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["KafkaHandler"]


class KafkaHandler(Handler):
    """Produces with an idempotent producer of its own for each worker; an outcome for each delivery report.

    At least once: a message is ok when all in-sync replicas have it (``acks = "all"``). Inside one producer
    nothing comes twice, whatever happens to connections; after an outage of ``outage_s``, an attempt that
    took too long, or a fatal error of the producer, a message may come twice, with the same id in its
    header ``id``. The record's key is ``record_key`` or the message's ``key``: messages of a key go to one
    partition, in order. Headers are the message's; text as UTF-8, bytes as they are, anything else as JSON.

    A message over ``max_message_bytes`` is fatal before it is sent. When a broker refuses a batch for one
    message in it, each is sent again alone, and only that one fails. The result is a ``KafkaRecord``: topic,
    partition and offset. A callable payload is given a ``confluent_kafka.Producer``, whose reports this
    handler's thread serves.

    >>> KafkaHandler.Options(topic="orders", partition=3).id_header
    'id'
    """

    Connection: ClassVar[Any] = KafkaSettings
    Options: ClassVar[Any] = KafkaOptions
    guarantee: ClassVar[str] = (
        "at least once; within one producer nothing comes twice (acks = all), after an outage or a fatal "
        "error of the producer a message may, with the same id in its header; in order within a partition, "
        "failed messages aside"
    )

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce_``, as the binding of CloudEvents for Kafka has it."""
        return EVENT_PREFIX

    def connect(self) -> KafkaWire:
        """Make a producer, and wait until a broker answers."""
        options = self.options if self.options is not None else KafkaOptions()
        name = f"rambla {self.service}.{self.channel}"
        wire = KafkaWire(self.settings, topic=options.topic or self.channel, link=self.link, name=name)
        try:
            wire.open(self.settings.connect_timeout_s)
        except BaseException:
            wire.close()
            raise
        return wire

    def close(self, connection: KafkaWire) -> None:
        """End the producer; what a callable produced by itself is flushed for a moment."""
        connection.close()

    def ping(self, connection: KafkaWire) -> None:
        """Ask a broker for the channel's topic."""
        connection.ping(self.settings.connect_timeout_s)

    def destination(self, connection: KafkaWire) -> Any:
        """Return the producer itself."""
        return connection.producer

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand all to the producer; each is settled by its report."""
        state.connection.publish(deliveries)
