"""Delivery to Kafka, and to any cluster that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.described import Described
from rambla_py.handler import Handler, Takes
from rambla_py.handlers.kafka.connection import KafkaConnection
from rambla_py.handlers.kafka.encode import EVENT_PREFIX
from rambla_py.handlers.kafka.settings import KafkaOptions, KafkaSettings
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, State

__all__ = ["KafkaHandler"]


class KafkaHandler(Handler[KafkaConnection, KafkaOptions, KafkaSettings]):
    """Produces with one idempotent producer for each worker; each delivery report settles its message.

    At least once: a message is ok once all in-sync replicas have it (``acks = "all"``). Within one producer
    nothing arrives twice, even if connections break; after an outage of ``outage_s``, an attempt that timed
    out, or a fatal error of the producer, a message may arrive twice, with the same id in its header ``id``.
    The record's key is ``record_key`` or the message's ``key``: messages with the same key go to one
    partition, in order. Headers: strings as UTF-8, bytes unchanged, anything else as JSON.

    A message over ``max_message_bytes`` is fatal without being sent. When a broker refuses a batch because of
    one message in it, each is sent again alone, and only that one fails. The result is a ``KafkaRecord``:
    topic, partition and offset. The ``destination`` of a callable payload is the
    ``confluent_kafka.Producer``, whose reports are served by the handler's thread.

    >>> KafkaHandler.Options(topic="orders", partition=3).id_header
    'id'
    """

    Connection: ClassVar[Any] = KafkaSettings
    Options: ClassVar[Any] = KafkaOptions
    _side_threads: ClassVar[int] = 1
    header_types: ClassVar[tuple[type, ...]] = (type(None),)
    guarantee: ClassVar[str] = (
        "at least once; within one producer nothing arrives twice (acks = all); after an outage or a fatal "
        "error of the producer a message may, with the same id in its header; in order within a partition, "
        "except failed messages"
    )

    @classmethod
    def takes_for(cls, options: Any) -> Takes:
        """Return ``"bytes"``; a tombstone has no body."""
        return "nothing" if options.tombstone else "bytes"

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce_``, as the CloudEvents binding for Kafka requires."""
        return EVENT_PREFIX

    def describe(self, options: Any) -> Described:
        """Return the first broker, and the topic."""
        return Described.of(self, "kafka", options.topic)

    def connect(self) -> KafkaConnection:
        """Create a producer, and wait until a broker answers."""
        options = self.options if self.options is not None else KafkaOptions()
        name = f"rambla {self.service}.{self.channel}"
        connection = KafkaConnection(
            self.settings,
            topic=options.topic or self.channel,
            link=self.link,
            name=name,
            asks_topic=not self.dry_run,
            extra=target_extra(self),
        )
        try:
            connection.open(self.settings.connect_timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, connection: KafkaConnection) -> None:
        """Close the producer; messages of a callable payload are flushed for a moment."""
        connection.close()

    def ping(self, connection: KafkaConnection) -> None:
        """Ask a broker for the channel's topic."""
        connection.ping(self.settings.connect_timeout_s)

    def preflight(self, connection: KafkaConnection, report: Preflight) -> None:
        """Look for the topic, and the right to write to it."""
        connection.preflight(report, self.settings.connect_timeout_s)

    def destination(self, connection: KafkaConnection) -> Any:
        """Return the producer."""
        return connection.producer

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State[KafkaConnection]) -> None:
        """Hand all to the producer; each is settled by its report."""
        state.connection.publish(deliveries)
