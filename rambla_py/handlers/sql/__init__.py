"""Delivery to SQL databases: one row for each message."""

from rambla_py.handlers._tables.options import TableOptions
from rambla_py.handlers.sql.handler import SqlHandler

__all__ = ["SqlHandler", "TableOptions"]
