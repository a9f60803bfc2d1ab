"""Delivery to Redis: a pipeline of commands for each batch, over a plain socket."""

from rambla_py.handlers.redis.handler import RedisHandler

__all__ = ["RedisHandler"]
