"""This package delivers over kombu, to any of its transports."""

from rambla_py.handlers.kombu.handler import KombuHandler

__all__ = ["KombuHandler"]
