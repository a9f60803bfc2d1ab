"""This package delivers to RabbitMQ: pika on a thread of its own, fed with frames encoded in batches."""

from rambla_py.handlers.amqp.handler import AmqpHandler

__all__ = ["AmqpHandler"]
