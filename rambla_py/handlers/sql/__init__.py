"""This package delivers to SQL databases: a message becomes a row of a table."""

from rambla_py.handlers.sql.handler import SqlHandler

__all__ = ["SqlHandler"]
