"""This module delivers to RabbitMQ, and to any broker that speaks AMQP 0-9-1 with confirms."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from rambla_py.errors import AccessError, ConnectionLostError, PermanentError
from rambla_py.handler import Handler
from rambla_py.handlers.amqp.errors import as_lost
from rambla_py.handlers.amqp.frames import EVENT_PREFIX, FrameEncoder
from rambla_py.handlers.amqp.io import AmqpIo
from rambla_py.handlers.amqp.parameters import all_parameters, without_heartbeat
from rambla_py.handlers.amqp.settings import AmqpOptions, AmqpSettings

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["AmqpHandler"]

_PIECE_BYTES = 1_048_576
_CLOSE_S = 2.0


class AmqpHandler(Handler):
    """Publishes over one connection and one channel of its own; many messages are in flight at a time.

    At least once with ``confirm`` (the default): a message is ok when the broker has confirmed it, which for
    a persistent message in a durable queue means that it is on disk. A message that no queue takes is
    returned and fails with ``UnroutableError`` (``mandatory``), one that the broker refuses (``basic.nack``)
    with ``RejectedError``; both are retried. After a loss between the write and the confirm a message may
    come twice, with the same ``message_id``. One worker publishes in the order it was given; a message that
    is retried comes later.

    At most once with ``confirm = false``: a message is ok when the socket has taken it; one that is returned
    then is only logged.

    ``message_id`` is the message's id, ``headers`` go over those of ``properties``, and ``content_type`` is
    ``application/json``, ``text/plain`` for text and ``application/octet-stream`` for bytes. A payload over
    ``max_message_bytes`` is fatal before it is sent. The result of a delivery is None. A callable payload is
    given a ``pika.adapters.blocking_connection.BlockingChannel`` as ``destination``, on a connection beside
    this one, confirming if ``confirm`` is on.

    >>> AmqpHandler.Options(exchange="orders", routing_key="paid").mandatory
    True
    """

    Connection: ClassVar[Any] = AmqpSettings
    Options: ClassVar[Any] = AmqpOptions
    guarantee: ClassVar[str] = (
        "at least once with confirm, at most once without; after a loss between write and confirm a message "
        "may come twice with the same message_id; in sequence within a worker, retried messages aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._next = 0

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as the binding of CloudEvents for RabbitMQ has it."""
        return EVENT_PREFIX

    def connect(self) -> AmqpConnection:
        """Connect to the first broker that answers; after a loss, beginning with the one that follows."""
        options = self.options if self.options is not None else AmqpOptions()
        brokers = all_parameters(self.settings)
        failures = []
        for turn in range(len(brokers)):
            index = (self._next + turn) % len(brokers)
            name = f"rambla {self.service}.{self.channel}"
            io = AmqpIo(brokers[index], options=options, link=self.link, name=name)
            try:
                io.open(self.settings.connect_timeout_s)
            except ConnectionLostError as error:
                failures.append(error)
                continue
            self._next = index + 1
            return AmqpConnection(io, confirm=options.confirm, settings=self.settings)
        raise _summed_up(failures)

    def close(self, connection: AmqpConnection | None) -> None:
        """Close the connection, and the one that callables were given; returns within a few seconds."""
        if connection is not None:
            connection.close()

    def ping(self, connection: AmqpConnection) -> None:
        """Make a round trip on the channel; raises when it takes longer than ``connect_timeout_s``."""
        connection.io.ping(self.settings.connect_timeout_s)

    def destination(self, connection: AmqpConnection) -> BlockingChannel:
        """Return an open ``BlockingChannel`` to the same broker, for the worker's thread only."""
        return connection.blocking_channel()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand all over in one write; each is settled when the broker answers."""
        state.connection.publish(deliveries)


class AmqpConnection:
    """What ``connect`` returns: the way to publish, and a blocking channel when a callable asks for one."""

    def __init__(self, io: AmqpIo, *, confirm: bool, settings: AmqpSettings) -> None:
        self.io = io
        self._confirm = confirm
        self._pid = os.getpid()
        self._encoder = FrameEncoder(frame_max=io.frame_max, max_message_bytes=settings.max_message_bytes)
        self._blocking: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    def __repr__(self) -> str:
        return f"<AmqpConnection {self.io!r}>"

    def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Encode the deliveries and hand them to the I/O thread; one that cannot be encoded fails alone."""
        encode = self._encoder.encode
        pieces: list[bytes | memoryview] = []
        parts: list[bytes | memoryview] = []
        accepted = []
        size = 0
        for delivery in deliveries:
            try:
                parts += encode(delivery)
            except UnicodeEncodeError:
                delivery.failed(PermanentError("property 'message_id': text that UTF-8 cannot hold"))
                continue
            except Exception as error:  # a serializer of the user's may raise anything
                delivery.failed(error)
                continue
            accepted.append(delivery)
            size += len(delivery.body())
            if size >= _PIECE_BYTES:
                pieces.append(memoryview(b"".join(parts)))
                parts, size = [], 0
        if parts:
            pieces.append(memoryview(b"".join(parts)))
        if accepted:
            self.io.publish(pieces, accepted)

    def blocking_channel(self) -> BlockingChannel:
        """Return the blocking channel, opened when there is none or it was closed; raises as ``connect``."""
        if self._channel is not None and self._channel.is_open:
            return self._channel
        self._close_blocking()
        # A heartbeat needs somebody who serves it, and nobody does between two callables.
        parameters = without_heartbeat(self.io.parameters)
        try:
            self._blocking = pika.BlockingConnection(parameters)
            self._channel = self._blocking.channel()
            if self._confirm:
                self._channel.confirm_delivery()
        except (AMQPError, AMQPConnectorException, OSError) as error:
            raise as_lost(error, where=self.io.where, during="cannot connect") from error
        return self._channel

    def close(self) -> None:
        """Close both connections; may be called twice."""
        self.io.close()
        self._close_blocking()

    def _close_blocking(self) -> None:
        blocking, self._blocking, self._channel = self._blocking, None, None
        if blocking is None or os.getpid() != self._pid:  # a parent's socket is not ours to close
            return
        # It waits for the broker's answer without a bound of its own.
        goodbye = threading.Thread(target=_close_quietly, args=(blocking,), daemon=True)
        goodbye.start()
        goodbye.join(_CLOSE_S)


def _close_quietly(connection: pika.BlockingConnection) -> None:
    with contextlib.suppress(AMQPError, OSError):
        connection.close()


def _summed_up(failures: Sequence[ConnectionLostError]) -> ConnectionLostError:
    if len(failures) == 1:
        return failures[0]
    refused = all(isinstance(failure, AccessError) for failure in failures)
    return (AccessError if refused else ConnectionLostError)("; ".join(map(str, failures)))
