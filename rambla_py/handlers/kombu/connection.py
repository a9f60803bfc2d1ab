"""One connection of kombu, which publishes message by message."""

from __future__ import annotations

import os
import secrets
import selectors
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import amqp
from amqp.exceptions import MessageNacked
from amqp.spec import Basic
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Producer

from rambla_py._internal.tls import NO_CERTIFICATE, demands_certificate
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    PayloadTooLargeError,
    UnavailableError,
    UnroutableError,
)
from rambla_py.handlers._headers import check_amqp_headers
from rambla_py.handlers.kombu.encode import EVENT_PREFIX, content_of
from rambla_py.handlers.kombu.errors import connect_error, encoding_error, publish_error
from rambla_py.handlers.kombu.kombu_private import VirtualChannel, routes
from rambla_py.handlers.kombu.settings import (
    KombuOptions,
    KombuSettings,
    connection_arguments,
    speaks_amqp,
    tls_of,
    transport_of,
)
from rambla_py.serialization.wire_format import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["KombuConnection"]

_PERSISTENT, _TRANSIENT = 2, 1


class KombuConnection:
    """A connection and its channel, for one worker's thread; only ``close`` may be called from another.

    After an error that closed the channel, the next message opens another one; an error that closed the
    connection loses it. While RabbitMQ blocks publishers, the message that was written waits for its confirm
    without a bound, and no other is written.
    """

    def __init__(self, settings: KombuSettings, options: KombuOptions, *, channel: str, link: Link) -> None:
        self._settings, self._options, self._name, self._link = settings, options, channel, link
        self._pid = os.getpid()
        self._limit = settings.max_message_bytes
        self._speaks_amqp = speaks_amqp(settings)
        self._blocked = self._publishing = self._probing = self._link_held = False
        arguments = connection_arguments(settings)
        if self._speaks_amqp:
            heard = {"on_blocked": self._on_blocked, "on_unblocked": self._on_unblocked}
            arguments["transport_options"] = {**arguments["transport_options"], **heard}
        self._connection: Any = Connection(**arguments)
        self.where = f"kombu's {transport_of(settings)} at {_place(self._connection)}"
        self._secrets = _secrets(self._connection)
        self._channel: Any = None
        self._producer: Any = None
        self._returned: list[str] = []

    def __repr__(self) -> str:
        return f"<KombuConnection {self.where}>"

    @property
    def connection(self) -> Any:
        """The driver's own object."""
        return self._connection

    def open(self, *, declare: bool = True) -> None:
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
        except Exception as error:  # a transport raises whatever its driver raises
            raise self._without_certificate() or self._connect_error(error) from None
        if self._options.declare and declare:
            try:
                self._declare()
            except Exception as error:
                raise self._connect_error(error) from None

    def ping(self) -> None:
        """Open a channel of its own; raises ``ConnectionLostError``, ``UnavailableError`` while blocked.

        RabbitMQ tells a connection only after it has published that it blocks publishers; hence the message.
        """
        try:
            self._notice()
            channel = self._connection.channel()
            if self._speaks_amqp:
                self._probe(channel)
            channel.close()
        except UnavailableError:
            raise
        except Exception as error:
            raise self._connect_error(error) from None

    def publish(self, delivery: Delivery) -> None:
        """Publish one message; returns when the transport confirms the write."""
        options: KombuOptions = delivery.options
        body = delivery.body()
        if self._limit is not None and len(body) > self._limit:
            raise PayloadTooLargeError(len(body), self._limit, "max_message_bytes")
        content_type, content_encoding = content_of(delivery)
        headers = dict(wire_headers(delivery, EVENT_PREFIX))
        check_amqp_headers(headers)
        routing_key = self._routing_key(options)
        self._notice()
        if self._blocked:
            raise UnavailableError(f"{self.where}: the broker blocks publishers")
        try:
            producer = self._ready()
            self._check_route(options, routing_key)
            self._returned.clear()
            self._publish_and_wait(
                producer,
                body,
                exchange=options.exchange,
                routing_key=routing_key,
                content_type=options.content_type or content_type,
                content_encoding=content_encoding,
                headers=headers,
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
                # A broker that blocks us would not answer a polite close.
                close = self._connection.collect if self._blocked else self._connection.release
                close()

    # -- blocked by RabbitMQ --------------------------------------------------------------------------------

    def _publish_and_wait(self, producer: Any, body: bytes, **arguments: Any) -> None:
        """Publish; the confirm may take longer than ``answer_timeout_s`` only while the broker blocks us."""
        self._publishing = True
        try:
            producer.publish(body, **arguments)
        except TimeoutError:
            if not self._link_held:
                raise
            self._await_confirm()
        finally:
            self._publishing = False
            if self._link_held:
                self._link_held = False
                self._link.release()

    def _await_confirm(self) -> None:
        while True:
            blocked = self._blocked
            try:
                self._channel.wait(
                    [Basic.Ack, Basic.Nack], callback=_refuse_nack, timeout=self._settings.answer_timeout_s
                )
                return
            except TimeoutError:
                if not blocked:
                    raise

    def _probe(self, channel: Any) -> None:
        """Publish to a queue that does not exist, which the broker drops and confirms."""
        self._probing = True
        wait_s = self._settings.answer_timeout_s
        try:
            with suppress(amqp.AccessRefused):  # no permission to write is an answer, too
                channel.basic_publish_confirm(
                    amqp.Message(b""),
                    routing_key=f"rambla_py.ping.{secrets.token_hex(8)}",
                    timeout=wait_s,
                    confirm_timeout=wait_s,
                )
        finally:
            self._probing = False

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = True
        if self._probing:
            raise UnavailableError(f"{self.where}: the broker blocks publishers")
        if self._publishing and not self._link_held:
            self._link_held = True
            self._link.hold()

    def _on_unblocked(self) -> None:
        self._blocked = False

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
        name = self.queue_name()
        if name:
            queue = Queue(
                name,
                exchange=exchange,
                routing_key=self._routing_key(options),
                durable=options.durable,
                queue_arguments=options.queue_arguments or None,
            )
            queue.bind(self._channel).declare()

    def queue_name(self) -> str | None:
        """Return the queue of the options; None if an exchange alone is named."""
        options = self._options
        return options.queue or (None if options.exchange else self._routing_key(options))

    def _routing_key(self, options: KombuOptions) -> str:
        return options.routing_key or options.queue or self._name

    def _check_route(self, options: KombuOptions, routing_key: str) -> None:
        """Refuse what a transport with virtual exchanges would drop silently."""
        channel = self._channel
        if not (options.mandatory and options.exchange and isinstance(channel, VirtualChannel)):
            return
        if not routes(channel, options.exchange, routing_key, options.exchange_type):
            where = f"exchange {options.exchange!r} with routing key {routing_key!r}"
            raise UnroutableError(f"{self.where}: no queue is bound to {where}")

    def _notice(self) -> None:
        """Handle what the server has sent; raises if it closed the connection: nothing is written then."""
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
        if isinstance(mapped, PayloadTooLargeError):
            self._limit = mapped.limit
        channel, self._channel, self._producer = self._channel, None, None
        if isinstance(channel, VirtualChannel):
            with suppress(Exception):
                channel.close()
        elif channel is not None and not isinstance(mapped, UnroutableError) and channel.is_open:
            # A late answer would be taken for the next message's.
            with suppress(Exception):
                channel.close()
        return mapped or encoding_error(error) or error

    def _connect_error(self, error: Exception) -> ConnectionLostError:
        return connect_error(error, where=self.where, secrets=self._secrets)

    def _without_certificate(self) -> AccessError | None:
        """Return the error of a connect that lacked a client certificate, which the driver may miss."""
        tls, connection = tls_of(self._settings), self._connection
        if tls is None or not self._speaks_amqp:
            return None
        host, port, wait_s = (
            connection.hostname or "localhost",
            connection.port,
            self._settings.connect_timeout_s,
        )
        if not demands_certificate(tls, host, port or 5671, timeout_s=wait_s):
            return None
        return AccessError(f"{self.where}: cannot connect: {NO_CERTIFICATE}")

    def _lost(self, error: Exception) -> ConnectionLostError:
        lost = self._connect_error(error)
        return type(lost)(str(lost).replace("cannot connect", "the connection was lost"))


def _refuse_nack(method: Any, *_: Any) -> None:
    if method == Basic.Nack:
        raise MessageNacked


def _place(connection: Any) -> str:
    """Return host and port, or what the transport has instead, without credentials."""
    if connection.port:
        return f"{connection.hostname or 'localhost'}:{connection.port}"
    return str(connection.hostname or connection.virtual_host or "this process").rpartition("@")[2]


def _secrets(connection: Any) -> list[str]:
    password = connection.password
    return sorted({password, quote(password, safe="")}, key=len, reverse=True) if password else []
