"""Delivery to NATS, over nats-py."""

from rambla_py.handlers.nats.handler import NatsHandler

__all__ = ["NatsHandler"]
