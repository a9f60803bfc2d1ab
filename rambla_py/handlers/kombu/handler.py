"""This module delivers to whatever kombu has a transport for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.kombu.content import EVENT_PREFIX
from rambla_py.handlers.kombu.settings import KombuOptions, KombuSettings
from rambla_py.handlers.kombu.wire import KombuWire

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["KombuHandler"]


class KombuHandler(Handler):
    """Publishes by a URL of kombu, one message after the other, in the form that kombu and Celery read.

    At least once where the transport answers: with ``amqp://`` a message is ok when the broker has confirmed
    it, with ``redis://``, ``sqs://``, ``sqla+...`` and ``filesystem://`` when their write is done; what
    ``memory://`` holds is gone with the process. A message that no queue takes fails with
    ``UnroutableError``, also on the transports that would drop it. After a loss in the middle of a write a
    message may come twice, with the same ``message_id``.

    For RabbitMQ and Redis the handlers ``amqp`` and ``redis`` are many times as fast; this one is for the
    transports that have no handler of their own, and for consumers that read kombu's envelope. The result
    is None. A callable payload is given the ``kombu.Connection``.

    >>> KombuHandler.Options(queue="orders", message_priority=9).declare
    True
    """

    Connection: ClassVar[Any] = KombuSettings
    Options: ClassVar[Any] = KombuOptions
    guarantee: ClassVar[str] = (
        "at least once where the transport answers (amqp confirms, redis, sqs, sql, files), at most once in "
        "memory; after a loss in mid-write a message may come twice with the same message_id; in sequence "
        "within a worker, failed messages aside"
    )

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as the binding of CloudEvents for RabbitMQ has it."""
        return EVENT_PREFIX

    def connect(self) -> KombuWire:
        """Connect, and declare what the channel says."""
        options = self.options if self.options is not None else KombuOptions()
        wire = KombuWire(self.settings, options, channel=self.channel)
        try:
            wire.open()
        except BaseException:
            wire.close()
            raise
        return wire

    def close(self, connection: KombuWire) -> None:
        """Close the connection."""
        connection.close()

    def ping(self, connection: KombuWire) -> None:
        """Ask the server for a channel."""
        connection.ping()

    def destination(self, connection: KombuWire) -> Any:
        """Return the driver's own connection."""
        return connection.connection

    def handle_publish(self, message: Delivery, options: Any, state: State) -> None:
        """Publish, and wait until the transport says that it is there."""
        state.connection.publish(message)
