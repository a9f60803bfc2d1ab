"""The ``amqp`` handler: RabbitMQ over pika, on an I/O thread that writes frames encoded in batches."""

from rambla_py.handlers.amqp.handler import AmqpHandler

__all__ = ["AmqpHandler"]
