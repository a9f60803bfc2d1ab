"""The handler for RabbitMQ, and for any broker that speaks AMQP 0-9-1 with confirms."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.connection import Parameters
from pika.exceptions import AMQPError

from rambla_py._internal.tls import NO_CERTIFICATE, TlsTable, demands_certificate, tls_table
from rambla_py.described import Described
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Handler
from rambla_py.handlers._headers import HEADER_TYPES, ROUTING_HEADERS
from rambla_py.handlers.amqp.connection import AmqpConnection
from rambla_py.handlers.amqp.encode import EVENT_PREFIX, SizeLimit
from rambla_py.handlers.amqp.errors import connect_error
from rambla_py.handlers.amqp.preflight import look
from rambla_py.handlers.amqp.settings import (
    AmqpOptions,
    AmqpSettings,
    address_of,
    all_parameters,
    without_heartbeat,
)
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, Promise, State, Takes

__all__ = ["AmqpHandler"]

_CLOSE_S = 2.0


class AmqpHandler(Handler["AmqpConnection", "AmqpOptions", "AmqpSettings"]):
    """Publishes over one connection and one channel per worker, with many messages in flight.

    If the broker closes the channel for one of them, the others keep the connection and come twice at most.

    At least once with ``confirm`` (the default): a message is ok when the broker has confirmed it, which for
    a persistent message in a durable queue means that it is on disk. A message that no queue takes is
    returned and fails with ``UnroutableError`` (``mandatory``), one that the broker refuses (``basic.nack``)
    with ``RejectedError``; both are retried. After a loss between the write and the confirm a message may
    arrive twice, with the same ``message_id``. A worker publishes in order; a message that is retried comes
    later.

    At most once with ``confirm = false``: a message is ok when the socket has taken it; one that is returned
    is only logged.

    ``message_id`` is the message's id, its ``headers`` override those of ``properties``, and ``content_type``
    is ``application/json``, ``text/plain`` for a string and ``application/octet-stream`` for bytes. A message
    that cannot be encoded, or that RabbitMQ is known to refuse, is fatal without being sent. The result of a
    delivery is None. A callable payload gets a ``pika.adapters.blocking_connection.BlockingChannel`` as
    ``destination``, on a second connection, in confirm mode if ``confirm`` is on.

    >>> AmqpHandler.Options(exchange="orders", routing_key="paid").mandatory
    True
    """

    Connection: ClassVar[Any] = AmqpSettings
    Options: ClassVar[Any] = AmqpOptions
    takes: ClassVar[Takes] = "bytes"
    scope_by_options = True
    _side_threads: ClassVar[int] = 1
    header_types: ClassVar[tuple[type, ...]] = HEADER_TYPES
    control_headers: ClassVar[tuple[str, ...]] = ROUTING_HEADERS
    guarantee: ClassVar[str] = (
        "at least once with confirm, at most once without; after a loss between write and confirm a message "
        "may come twice with the same message_id; in sequence within a worker, retried messages aside"
    )

    @classmethod
    def promises(cls, settings: Any, options: Any) -> Promise:
        """Return ``at most once`` without confirms."""
        return "at least once" if options is None or options.confirm else "at most once"

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._next = 0
        # Kept across connections: the broker names its limit only when it closes a channel.
        self._limit = SizeLimit(settings.max_message_bytes)
        self._blocking: _BlockingPublisher | None = None

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as in the binding of CloudEvents for RabbitMQ."""
        return EVENT_PREFIX

    def describe(self, options: Any) -> Described:
        """Return the broker, and exchange and routing key joined by a colon."""
        key = options.routing_key or ("" if options.exchange else self.channel)
        name = ":".join(part for part in (options.exchange, key) if part)
        return Described.of(
            self, "rabbitmq", name, {"messaging.rabbitmq.destination.routing_key": key} if key else {}
        )

    def connect(self) -> AmqpConnection:
        """Connect to the first broker that answers, starting with the one after the last that did."""
        brokers = all_parameters(self.settings)
        failures = []
        for turn in range(len(brokers)):
            index = (self._next + turn) % len(brokers)
            connection = self._connection(brokers[index])
            try:
                connection.open(self.settings.connect_timeout_s)
            except ConnectionLostError as error:
                failures.append(self._explained(error, brokers[index]))
                continue
            self._next = index + 1
            return connection
        raise _summary(failures)

    def close(self, connection: AmqpConnection | None) -> None:
        """Close the connection, and the one for callables; returns within a few seconds."""
        if connection is not None:
            connection.close()
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            blocking.close()

    def ping(self, connection: AmqpConnection) -> None:
        """Wait for a confirm, at most ``connect_timeout_s``; raises if the broker blocks publishers."""
        connection.ping(self.settings.connect_timeout_s)

    def preflight(self, connection: AmqpConnection, report: Preflight) -> None:
        """Look for exchanges, queues and the permission to write, on a connection of its own."""
        look(connection.parameters, self._options(), self.channel, report)

    def destination(self, connection: AmqpConnection) -> BlockingChannel:
        """Return an open ``BlockingChannel`` to the same broker, for the worker's thread only."""
        if self._blocking is None:
            self._blocking = _BlockingPublisher(connection.parameters, confirm=self._options().confirm)
        return self._blocking.channel()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand all over in one write; each is settled when the broker answers."""
        state.connection.publish(deliveries)

    def _explained(self, error: ConnectionLostError, parameters: Parameters) -> ConnectionLostError:
        """Return the error of a failed connect, or a better one if a certificate was what it lacked."""
        if isinstance(error, AccessError) or parameters.ssl_options is None:
            return error
        tls = tls_table(self.settings.tls) or TlsTable()
        wait_s = self.settings.connect_timeout_s
        if not demands_certificate(tls, parameters.host, parameters.port, timeout_s=wait_s):
            return error
        return AccessError(f"{address_of(parameters)}: cannot connect: {NO_CERTIFICATE}")

    def _options(self) -> AmqpOptions:
        options: AmqpOptions | None = self.options
        return AmqpOptions() if options is None else options

    def _connection(self, parameters: Parameters) -> AmqpConnection:
        return AmqpConnection(
            parameters,
            options=self._options(),
            link=self.link,
            name=f"rambla {self.service}.{self.channel}",
            limit=self._limit,
            check_user_id=self.settings.check_user_id,
            declares=not self.dry_run,
            extra=target_extra(self),
        )


class _BlockingPublisher:
    """A blocking connection of pika's for callable payloads, opened when the first one needs it."""

    def __init__(self, parameters: Parameters, *, confirm: bool) -> None:
        self._parameters, self._confirm, self._pid = parameters, confirm, os.getpid()
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    def channel(self) -> BlockingChannel:
        """Return an open channel, a new one after it was closed; raises as ``connect`` does."""
        if self._channel is not None and self._channel.is_open:
            return self._channel
        self.close()
        try:
            # No thread would answer heartbeats between two callables.
            self._connection = pika.BlockingConnection(without_heartbeat(self._parameters))
            self._channel = self._connection.channel()
            if self._confirm:
                self._channel.confirm_delivery()
        except (AMQPError, AMQPConnectorException, OSError) as error:
            raise connect_error(error, where=address_of(self._parameters)) from error
        return self._channel

    def close(self) -> None:
        """Close the connection; may be called twice."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None or os.getpid() != self._pid:  # the socket of a parent process stays open
            return
        # pika waits for the broker's answer without a bound of its own.
        goodbye = threading.Thread(target=_close_quietly, args=(connection,), daemon=True)
        goodbye.start()
        goodbye.join(_CLOSE_S)


def _close_quietly(connection: pika.BlockingConnection) -> None:
    with contextlib.suppress(AMQPError, OSError):
        connection.close()


def _summary(failures: Sequence[ConnectionLostError]) -> ConnectionLostError:
    """Return one error for all brokers: ``AccessError`` only if each of them needs an operator."""
    if len(failures) == 1:
        return failures[0]
    refused = all(isinstance(failure, AccessError) for failure in failures)
    return (AccessError if refused else ConnectionLostError)("; ".join(map(str, failures)))
