"""Declarations of a channel's exchanges, queues and bindings, as calls of pika's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pika.channel import Channel

from rambla_py.handlers.amqp.settings import AmqpOptions, Declaration

__all__ = ["declaration_steps"]

Step = Callable[..., Any]
"""A call of pika's that still lacks its ``callback``."""


def declaration_steps(channel: Channel, options: AmqpOptions) -> list[Step]:
    """Return the calls on the channel, in order, that declare what the options list.

    Each takes a ``callback`` for the broker's answer. The broker closes the channel when something exists
    with other arguments, or is ``passive`` and missing.
    """
    return [step for declaration in options.declarations() for step in _steps(channel, declaration, options)]


def _steps(channel: Channel, declaration: Declaration, options: AmqpOptions) -> Iterator[Step]:
    exchange, queue = declaration.exchange, declaration.queue
    exchange_name = (exchange.name if exchange else None) or options.exchange
    if exchange is not None:
        yield partial(
            channel.exchange_declare,
            exchange_name,
            exchange_type=exchange.type,
            passive=exchange.passive,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=exchange.arguments or None,
        )
    if queue is not None:
        yield partial(
            channel.queue_declare,
            queue.name,
            passive=queue.passive,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.arguments or None,
        )
    for binding in declaration.bindings:
        yield partial(
            channel.queue_bind,
            binding.queue or (queue.name if queue else ""),
            binding.exchange or exchange_name,
            routing_key=binding.routing_key,
            arguments=binding.arguments or None,
        )
