"""What would make every message of a channel fail, found out without publishing or declaring anything."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.connection import Parameters
from pika.exceptions import AMQPError, ChannelClosedByBroker

from rambla_py.handler import Preflight
from rambla_py.handlers.amqp.errors import connect_error
from rambla_py.handlers.amqp.settings import (
    AmqpOptions,
    Declaration,
    address_of,
    default_key,
    without_heartbeat,
)

__all__ = ["look"]

_ACCESS_REFUSED, _NOT_FOUND = 403, 404
_IS_DEFAULT = "default exchange"


def look(parameters: Parameters, options: AmqpOptions, channel: str, report: Preflight) -> None:
    """Report what is missing, over a connection of its own; raises as a connect does."""
    try:
        with _connected(parameters) as connection:
            _Look(connection, address_of(parameters), options, channel, report).run()
    except (AMQPError, AMQPConnectorException, OSError) as error:
        raise connect_error(error, where=address_of(parameters)) from error


@contextmanager
def _connected(parameters: Parameters) -> Iterator[BlockingConnection]:
    connection = pika.BlockingConnection(without_heartbeat(parameters))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


class _Look:
    def __init__(
        self,
        connection: BlockingConnection,
        where: str,
        options: AmqpOptions,
        channel: str,
        report: Preflight,
    ) -> None:
        self._connection, self._where, self._report = connection, where, report
        self._options, self._channel = options, channel
        self._to_be: set[tuple[str, str]] = set()

    def run(self) -> None:
        for declaration in self._options.declarations():
            self._look_at_declaration(declaration)
        if self._options.exchange:
            self._look_at_exchange(self._options.exchange)
        else:
            self._look_at_queue(default_key(self._options, self._channel))
        if not self._report.problems:
            self._look_at_permission(self._options.exchange)

    def _look_at_declaration(self, declaration: Declaration) -> None:
        exchange, queue = declaration.exchange, declaration.queue
        name = (exchange.name if exchange else None) or self._options.exchange
        if exchange is not None:
            declared = {
                "exchange_type": exchange.type,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "internal": exchange.internal,
                "arguments": exchange.arguments or None,
            }
            self._look_at_declared("exchange", name, exchange.passive, declared)
        if queue is not None:
            declared = {
                "durable": queue.durable,
                "exclusive": queue.exclusive,
                "auto_delete": queue.auto_delete,
                "arguments": queue.arguments or None,
            }
            self._look_at_declared("queue", queue.name, queue.passive, declared)
        for binding in declaration.bindings:
            bound = binding.queue or (queue.name if queue else "")
            self._report.would_create(
                f"unless it exists, a binding of queue {bound!r} to exchange {binding.exchange or name!r} "
                f"with routing key {binding.routing_key!r}"
            )

    def _look_at_declared(self, kind: str, name: str, passive: bool, arguments: dict[str, Any]) -> None:
        missing = self._ask(lambda channel: self._declare(channel, kind, name, passive=True))
        if missing is None and not passive:
            # It exists: to declare it again changes nothing, and fails if it differs.
            missing = self._ask(lambda channel: self._declare(channel, kind, name, **arguments))
        if missing is None:
            return
        if missing.reply_code == _NOT_FOUND and not passive:
            self._to_be.add((kind, name))
            self._report.would_create(f"{kind} {name!r}")
        else:
            self._report.problem(str(connect_error(missing, where=self._where)))

    def _declare(self, channel: BlockingChannel, kind: str, name: str, **arguments: Any) -> None:
        (channel.exchange_declare if kind == "exchange" else channel.queue_declare)(name, **arguments)

    def _look_at_exchange(self, name: str) -> None:
        if ("exchange", name) not in self._to_be:
            refused = self._ask(lambda channel: channel.exchange_declare(name, passive=True))
            if refused is not None:
                self._missing("exchange", name, refused)
                return
        key = self._options.routing_key
        self._report.not_checked(f"whether exchange {name!r} routes routing key {key!r} to a queue")

    def _look_at_queue(self, name: str) -> None:
        if ("queue", name) in self._to_be:
            return
        refused = self._ask(lambda channel: channel.queue_declare(name, passive=True))
        if refused is not None and refused.reply_code == _NOT_FOUND and not self._options.routing_key:
            self._report.problem(
                f"{self._where}: neither exchange nor routing_key is set, and there is no queue {name!r}, "
                "the default",
                hint=f"set exchange or routing_key, or create it: rambla rabbit queue declare {name}",
            )
        elif refused is not None:
            self._missing("queue", name, refused)

    def _missing(self, kind: str, name: str, refused: ChannelClosedByBroker) -> None:
        if refused.reply_code != _NOT_FOUND:
            self._report.not_checked(f"{kind} {name!r}: {refused.reply_text}")
            return
        self._report.problem(
            f"{self._where}: there is no {kind} {name!r}",
            hint=f"create it: rambla rabbit {kind} declare {name}, or the option declare",
        )

    def _look_at_permission(self, name: str) -> None:
        """Ask for the removal of a binding that does not exist, which needs the permission to write.

        RabbitMQ checks this permission first. It then refuses the source, which does not exist, or the
        default exchange.
        """
        if ("exchange", name) in self._to_be:
            self._report.not_checked(f"the permission to write to exchange {name!r}, which is missing")
            return
        source = f"rambla_py.check.{secrets.token_hex(8)}"
        refused = self._ask(lambda channel: channel.exchange_unbind(name, source))
        if refused is None:
            return
        text = str(refused.reply_text)
        if refused.reply_code == _ACCESS_REFUSED and source not in text and _IS_DEFAULT not in text:
            self._report.problem(
                f"{self._where}: no permission to write to exchange {name!r}",
                hint="grant it: rabbitmqctl set_permissions",
            )

    def _ask(self, call: Callable[[BlockingChannel], Any]) -> ChannelClosedByBroker | None:
        """Make a call on a channel of its own; return the error if the broker refuses it."""
        channel = self._connection.channel()
        try:
            call(channel)
        except ChannelClosedByBroker as refused:
            return refused
        channel.close()
        return None
