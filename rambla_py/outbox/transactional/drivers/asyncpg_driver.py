"""Connections of asyncpg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rambla_py.outbox.transactional.drivers.base import dollar, no_transaction
from rambla_py.outbox.transactional.statements import Dialect, Query

if TYPE_CHECKING:
    import asyncpg

__all__ = ["AsyncpgBinding"]


class AsyncpgBinding:
    """An ``asyncpg.Connection``, also one of a pool."""

    name = "asyncpg"
    guesses_types = False

    def __init__(self, given: asyncpg.Connection[Any]) -> None:
        self._connection = given

    def dialect(self) -> Dialect:
        """Return ``"postgresql"``."""
        return "postgresql"

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open; that it has failed shows only later."""
        if self._connection.is_closed():
            raise no_transaction(self.name, "the connection is closed")
        if not self._connection.is_in_transaction():
            raise no_transaction(self.name, "no transaction is open")

    async def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        return [tuple(row) for row in await self._connection.fetch(query.sql(dollar), *query.parameters)]
