"""The ``kombu`` handler: any transport of kombu, by its URL."""

from rambla_py.handlers.kombu.handler import KombuHandler

__all__ = ["KombuHandler"]
