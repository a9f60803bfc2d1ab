"""The handler for everything that kombu has a transport for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.described import Described
from rambla_py.handler import Handler, secret_text
from rambla_py.handlers._headers import HEADER_TYPES, ROUTING_HEADERS
from rambla_py.handlers.kombu.connection import KombuConnection
from rambla_py.handlers.kombu.encode import EVENT_PREFIX
from rambla_py.handlers.kombu.preflight import look
from rambla_py.handlers.kombu.settings import KombuOptions, KombuSettings, transport_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, Promise, State, Takes

__all__ = ["KombuHandler"]


class KombuHandler(Handler["KombuConnection", "KombuOptions", "KombuSettings"]):
    """Publishes by a URL of kombu, one message after the other, in the form that kombu and Celery read.

    At least once where the transport answers: with ``amqp://`` a message is ok when the broker has confirmed
    it, with ``redis://``, ``sqs://``, ``sqla+...`` and ``filesystem://`` when their write is done; what
    ``memory://`` holds is gone with the process. A message that no queue takes fails with
    ``UnroutableError``, also on the transports that would drop it. After a loss in the middle of a write a
    message may arrive twice, with the same ``message_id``.

    For RabbitMQ and Redis, the handlers ``amqp`` and ``redis`` are many times faster; this one is for the
    transports without a handler of their own, and for consumers that read kombu's envelope. The result is
    None. A callable payload gets the ``kombu.Connection``.

    >>> KombuHandler.Options(queue="orders", message_priority=9).declare
    True
    """

    Connection: ClassVar[Any] = KombuSettings
    Options: ClassVar[Any] = KombuOptions
    takes: ClassVar[Takes] = "bytes"
    header_types: ClassVar[tuple[type, ...]] = HEADER_TYPES
    control_headers: ClassVar[tuple[str, ...]] = ROUTING_HEADERS
    guarantee: ClassVar[str] = (
        "at least once where the transport answers (amqp confirms, redis, sqs, sql, files), at most once in "
        "memory; after a loss in mid-write a message may come twice with the same message_id; in sequence "
        "within a worker, failed messages aside"
    )

    @classmethod
    def promises(cls, settings: Any, options: Any) -> Promise:
        """Return ``at most once`` for the transport in memory."""
        return "at most once" if transport_of(settings) == "memory" else "at least once"

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as in the binding of CloudEvents for RabbitMQ."""
        return EVENT_PREFIX

    def describe(self, options: Any) -> Described:
        """Return the transport's name as the system, and exchange and routing key joined by a colon."""
        transport = (secret_text(self.settings.url) or "amqp").split(":", maxsplit=1)[0].split("+")[0].lower()
        key = options.routing_key or (options.queue or self.channel if not options.exchange else "")
        name = ":".join(part for part in (options.exchange, key) if part)
        return Described.of(self, "rabbitmq" if transport in ("amqp", "amqps", "pyamqp") else transport, name)

    def connect(self) -> KombuConnection:
        """Connect, and declare exchange and queue."""
        options = self.options if self.options is not None else KombuOptions()
        connection = KombuConnection(self.settings, options, channel=self.channel, link=self.link)
        try:
            connection.open(declare=not self.dry_run)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, connection: KombuConnection) -> None:
        """Close the connection."""
        connection.close()

    def ping(self, connection: KombuConnection) -> None:
        """Open a channel; with ``amqp://``, raises also if the broker blocks publishers."""
        connection.ping()

    def preflight(self, connection: KombuConnection, report: Preflight) -> None:
        """Look for the exchange and the queue."""
        options = self.options if self.options is not None else KombuOptions()
        look(connection.connection, connection.where, options, connection.queue_name(), report)

    def destination(self, connection: KombuConnection) -> Any:
        """Return the driver's own connection."""
        return connection.connection

    def handle_publish(self, message: Delivery, options: Any, state: State) -> None:
        """Publish, and wait until the transport confirms the write."""
        state.connection.publish(message)
