"""This module delivers to ClickHouse over its HTTP interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.clickhouse.inserts import Inserts
from rambla_py.handlers.clickhouse.settings import ClickHouseConnection, ClickHouseOptions

if TYPE_CHECKING:
    from pyreqwest.client import SyncClient

    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["ClickHouseHandler"]


class ClickHouseHandler(Handler):
    """Writes messages as rows: one ``INSERT ... FORMAT JSONEachRow`` for each batch.

    At least once: a message is ok when the server has answered its insert. When the answer is lost the rows
    may come twice; where the server knows ``insert_deduplication_token``, and its table remembers inserts, a
    batch that is repeated whole is written once. ``id_column`` keeps the message's id, to know others by.
    There is no order.

    A message is an object, a list of objects (written together or not at all), or JSON text of either. A row
    that the server cannot take is fatal, with the server's words; the others of its batch are written. Wrong
    credentials count as a lost connection. The result is the number of rows. A callable payload is given a
    ``pyreqwest.client.SyncClient`` without credentials.

    >>> ClickHouseHandler.Options(table="shop.events").compression
    'gzip'
    """

    Connection: ClassVar[Any] = ClickHouseConnection
    Options: ClassVar[Any] = ClickHouseOptions
    guarantee: ClassVar[str] = (
        "at least once; after a loss between insert and answer rows may come twice (with the same id in "
        "id_column), unless the server drops a batch repeated whole, by its insert_deduplication_token; no "
        "order"
    )

    def connect(self) -> Inserts:
        """Log in, and ask which settings the server knows."""
        options = self.options if self.options is not None else ClickHouseOptions()
        name = f"rambla {self.service}.{self.channel}"
        inserts = Inserts(self.settings, options, channel=self.channel, link=self.link, name=name)
        try:
            inserts.check()
        except BaseException:
            inserts.close()
            raise
        return inserts

    def close(self, connection: Inserts | None) -> None:
        """Close all connections; from any thread."""
        if connection is not None:
            connection.close()

    def ping(self, connection: Inserts) -> None:
        """Run ``SELECT 1``."""
        connection.ping()

    def destination(self, connection: Inserts) -> SyncClient:
        """Return a client for the same server, TLS and proxy, which sends no credentials by itself."""
        return connection.destination()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand all over; each is settled when the server has answered its insert."""
        state.connection.submit(deliveries)
