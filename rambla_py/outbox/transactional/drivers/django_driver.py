"""Connections of Django."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.transactional.drivers.base import by_name, known_dialect, named, no_transaction, percent
from rambla_py.outbox.transactional.statements import Dialect, Query

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["DjangoBinding"]


class DjangoBinding:
    """A connection of Django, or its alias."""

    name = "django"
    guesses_types = False

    def __init__(self, given: BaseDatabaseWrapper | str) -> None:
        self._connection: Any = _by_alias(given) if isinstance(given, str) else given

    def dialect(self) -> Dialect:
        """Return the dialect of the connection."""
        return known_dialect(self.name, self._connection.vendor)

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open that has not failed."""
        connection = self._connection
        if connection.connection is None or (connection.get_autocommit() and not connection.in_atomic_block):
            raise no_transaction(self.name, "no transaction is open (transaction.atomic)")
        if connection.needs_rollback:
            raise no_transaction(self.name, "the transaction has failed, and must be rolled back")

    def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        with self._connection.cursor() as cursor:
            if self._connection.vendor == "sqlite":
                cursor.execute(query.sql(percent), query.parameters)
            else:
                cursor.execute(query.sql(named), by_name(query))
            return list(cursor.fetchall()) if cursor.description else []


def _by_alias(alias: str) -> Any:
    module = sys.modules.get("django.db")
    if module is None:
        raise OutboxError("django", f"{alias!r} is a string, but Django is not in use here")
    try:
        return module.connections[alias]
    except Exception as error:
        known = ", ".join(sorted(module.connections.settings))
        raise OutboxError("django", f"there is no database {alias!r}; known are {known}") from error
