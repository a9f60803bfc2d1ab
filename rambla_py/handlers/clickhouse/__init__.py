"""Delivery to ClickHouse: one insert of rows for each batch."""

from rambla_py.handlers.clickhouse.handler import ClickHouseHandler

__all__ = ["ClickHouseHandler"]
