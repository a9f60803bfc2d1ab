"""Delivery to ClickHouse over its HTTP interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.described import Described
from rambla_py.handler import Handler
from rambla_py.handlers.clickhouse.connection import ClickHouseConnection
from rambla_py.handlers.clickhouse.reader import ClickHouseReader
from rambla_py.handlers.clickhouse.settings import ClickHouseOptions, ClickHouseSettings

if TYPE_CHECKING:
    from pyreqwest.client import SyncClient

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, State

__all__ = ["ClickHouseHandler"]


class ClickHouseHandler(Handler):
    """Writes messages as rows: one ``INSERT ... FORMAT JSONEachRow`` for each batch.

    At least once: a message is ok when the server has answered its insert. When the answer is lost, rows may
    be written twice; if the server supports ``insert_deduplication_token`` and the table deduplicates
    inserts, a batch that is repeated whole is written once. ``id_column`` stores the message's id, so that
    other duplicates can be recognized. There is no order.

    A message is an object, a list of objects (written together or not at all), or JSON of either as a string.
    A row that the server cannot take is fatal; the other rows of its batch are written. Wrong credentials
    take the channel ``down``. The result is the number of rows. A callable payload is given a
    ``pyreqwest.client.SyncClient`` without credentials.

    >>> ClickHouseHandler.Options(table="shop.events").compression
    'gzip'
    """

    Connection: ClassVar[Any] = ClickHouseSettings
    scope_by_options = True
    Options: ClassVar[Any] = ClickHouseOptions
    takes = "table"
    guarantee: ClassVar[str] = (
        "at least once; after a loss between insert and answer rows may be written twice (with the same id "
        "in id_column), unless the server deduplicates a batch repeated whole by its "
        "insert_deduplication_token; no order"
    )

    @staticmethod
    def reader(settings: ClickHouseSettings) -> ClickHouseReader:
        """Return read access to the server of a connection."""
        return ClickHouseReader(settings)

    def describe(self, options: Any) -> Described:
        """Return the server, and the table."""
        table = options.table or next(iter(options.tables or ()), None) or self.channel
        attributes = {"db.system.name": "clickhouse", "db.collection.name": table}
        return Described.of(self, "rambla", table, attributes)

    def connect(self) -> ClickHouseConnection:
        """Log in, and ask which settings the server supports."""
        options = self.options if self.options is not None else ClickHouseOptions()
        name = f"rambla {self.service}.{self.channel}"
        connection = ClickHouseConnection(
            self.settings, options, channel=self.channel, link=self.link, name=name
        )
        try:
            connection.check()
            if options.create_table and not self.dry_run:
                connection.create_tables()
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, connection: ClickHouseConnection | None) -> None:
        """Close all connections; from any thread."""
        if connection is not None:
            connection.close()

    def ping(self, connection: ClickHouseConnection) -> None:
        """Run ``SELECT 1``."""
        connection.ping()

    def preflight(self, connection: ClickHouseConnection, report: Preflight) -> None:
        """Insert no rows, which needs the table and the right to insert."""
        connection.preflight(report)

    def destination(self, connection: ClickHouseConnection) -> SyncClient:
        """Return a client for the same server, TLS and proxy, which sends no credentials by itself."""
        return connection.destination()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Queue all of them; each is settled when the server has answered its insert."""
        state.connection.submit(deliveries)
