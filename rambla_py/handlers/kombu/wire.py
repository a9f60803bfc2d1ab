"""This module publishes over one connection of kombu, message by message."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Producer
from kombu.transport.virtual import Channel as VirtualChannel

from rambla_py.errors import ConnectionLostError, PayloadTooLargeError, UnroutableError
from rambla_py.handlers.kombu.content import EVENT_PREFIX, content_of
from rambla_py.handlers.kombu.errors import connect_error, publish_error
from rambla_py.handlers.kombu.settings import (
    KombuOptions,
    KombuSettings,
    connection_arguments,
    transport_of,
)
from rambla_py.wire import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["KombuWire"]

_PERSISTENT, _TRANSIENT = 2, 1


class KombuWire:
    """A connection and its channel, for one worker's thread; only ``close`` may be called from another.

    A channel that an error has closed is opened anew for the next message; a connection that an error has
    closed is lost.
    """

    def __init__(self, settings: KombuSettings, options: KombuOptions, *, channel: str) -> None:
        self._settings, self._options, self._name = settings, options, channel
        self._pid = os.getpid()
        self._limit = settings.limit
        self._connection: Any = Connection(**connection_arguments(settings))
        self.where = f"kombu's {transport_of(settings)} at {_place(self._connection)}"
        self._secrets = _secrets(self._connection)
        self._channel: Any = None
        self._producer: Any = None
        self._returned: list[str] = []

    def __repr__(self) -> str:
        return f"<KombuWire {self.where}>"

    @property
    def connection(self) -> Any:
        """The driver's own object."""
        return self._connection

    def open(self) -> None:
        """Connect and declare; raises ``ConnectionLostError`` or ``AccessError``."""
        try:
            self._connection.ensure_connection(
                max_retries=1,
                interval_start=0,
                interval_step=0,
                reraise_as_library_errors=False,
                timeout=self._settings.connect_timeout_s,
            )
            self._ready()
        except Exception as error:  # a transport lets whatever its driver raises through
            raise self._connect_error(error) from None
        if self._options.declare:
            try:
                self._declare()
            except Exception as error:
                raise self._connect_error(error) from None

    def ping(self) -> None:
        """Open a channel of its own, which asks the server; raises ``ConnectionLostError``."""
        try:
            self._notice()
            self._connection.channel().close()
        except Exception as error:
            raise self._connect_error(error) from None

    def publish(self, delivery: Delivery) -> None:
        """Publish one message; returns when the transport says that it is there."""
        options: KombuOptions = delivery.options
        body = delivery.body()
        if self._limit is not None and len(body) > self._limit:
            raise PayloadTooLargeError(len(body), self._limit, "max_message_bytes")
        content_type, content_encoding = content_of(delivery)
        routing_key = self._routing_key(options)
        self._notice()
        try:
            producer = self._ready()
            self._check_route(options, routing_key)
            self._returned.clear()
            producer.publish(
                body,
                exchange=options.exchange,
                routing_key=routing_key,
                content_type=options.content_type or content_type,
                content_encoding=content_encoding,
                headers=dict(wire_headers(delivery, EVENT_PREFIX)),
                mandatory=options.mandatory,
                delivery_mode=_PERSISTENT if options.persistent else _TRANSIENT,
                priority=options.message_priority or 0,
                expiration=options.message_expiry_s,
                message_id=delivery.id,
                timeout=self._settings.answer_timeout_s,
                confirm_timeout=self._settings.answer_timeout_s,
                declare=[],
            )
        except Exception as error:
            raise self._publish_error(error) from None
        if self._returned:
            raise UnroutableError(f"{self.where}: {self._returned[0]}")

    def close(self) -> None:
        """Close the connection; may be called twice, from any thread."""
        if os.getpid() == self._pid:  # a parent's socket is not ours to close
            with suppress(Exception):
                self._connection.release()

    # -- inside ---------------------------------------------------------------------------------------------

    def _ready(self) -> Any:
        """Return a producer on a channel that is open."""
        if self._producer is None:
            self._channel = self._connection.channel()
            # Only the transports of AMQP return messages, and most others have no such event.
            on_return = self._on_return if hasattr(self._channel, "events") else None
            self._producer = Producer(self._channel, auto_declare=False, on_return=on_return)
        return self._producer

    def _declare(self) -> None:
        options = self._options
        exchange = Exchange(options.exchange, type=options.exchange_type, durable=options.durable)
        if options.exchange:
            exchange.bind(self._channel).declare()
        name = options.queue or (None if options.exchange else self._routing_key(options))
        if name:
            queue = Queue(
                name,
                exchange=exchange,
                routing_key=self._routing_key(options),
                durable=options.durable,
                queue_arguments=options.queue_arguments or None,
            )
            queue.bind(self._channel).declare()

    def _routing_key(self, options: KombuOptions) -> str:
        return options.routing_key or options.queue or self._name

    def _check_route(self, options: KombuOptions, routing_key: str) -> None:
        """Refuse what a transport without an exchange of its own would drop without a word."""
        channel = self._channel
        if not (options.mandatory and options.exchange and isinstance(channel, VirtualChannel)):
            return
        kind = channel.state.exchanges.get(options.exchange, {}).get("type", options.exchange_type)
        if kind != "fanout" and not channel._lookup(options.exchange, routing_key):
            where = f"exchange {options.exchange!r} with routing key {routing_key!r}"
            raise UnroutableError(f"{self.where}: no queue is bound to {where}")

    def _notice(self) -> None:
        """Raise when the server has closed the connection meanwhile: nothing is written then."""
        opened = getattr(self._connection.connection, "sock", None)
        if opened is None:
            return
        try:
            with selectors.DefaultSelector() as selector:  # select() knows no file over number 1,023
                selector.register(opened, selectors.EVENT_READ)
                said_something = bool(selector.select(0))
            if said_something:
                self._connection.drain_events(timeout=0.001)
        except TimeoutError:
            return
        except Exception as error:
            raise self._lost(error) from None

    def _on_return(self, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        where = f"exchange {exchange!r} with routing key {routing_key!r}"
        self._returned.append(f"the broker returned the message: no queue takes what goes to {where}")

    def _publish_error(self, error: Exception) -> Exception:
        """Return what the error means; the channel is not used again after it."""
        losses = tuple(self._connection.connection_errors)
        mapped = publish_error(error, where=self.where, secrets=self._secrets, losses=losses)
        channel, self._channel, self._producer = self._channel, None, None
        if isinstance(channel, VirtualChannel):
            with suppress(Exception):
                channel.close()
        elif channel is not None and not isinstance(mapped, UnroutableError) and channel.is_open:
            # An answer may still come, and would be taken for the next message's.
            with suppress(Exception):
                channel.close()
        return mapped or error

    def _connect_error(self, error: Exception) -> ConnectionLostError:
        return connect_error(error, where=self.where, secrets=self._secrets)

    def _lost(self, error: Exception) -> ConnectionLostError:
        lost = self._connect_error(error)
        return type(lost)(str(lost).replace("cannot connect", "the connection was lost"))


def _place(connection: Any) -> str:
    """Return host and port, or what the transport has instead, without credentials."""
    if connection.port:
        return f"{connection.hostname or 'localhost'}:{connection.port}"
    return str(connection.hostname or connection.virtual_host or "this process").rpartition("@")[2]


def _secrets(connection: Any) -> list[str]:
    password = connection.password
    return sorted({password, quote(password, safe="")}, key=len, reverse=True) if password else []
