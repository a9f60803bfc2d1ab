"""Connections: opening, losing and replacing them."""

from __future__ import annotations

import pytest

from rambla_py.sql import (
    SqlAccessError,
    SqlBackend,
    SqlConnectionLostError,
)
from rambla_py.testing.contract_case import CANARY
from rambla_py.testing.flags import only_if
from rambla_py.testing.sql_contract_tests.case import SqlCase

__all__ = ["ConnectionTests"]


class ConnectionTests(SqlCase):
    """Connections are opened, tested, lost and replaced."""

    def test_ping(self) -> None:
        """``ping`` connects again after ``disconnect``, unless ``reconnect=False``."""
        with self.backend() as db:  # without a table, which a database in memory would lose
            assert db.ping()
            db.disconnect()
            assert not db.ping(reconnect=False)
            assert isinstance(db.last_error, SqlConnectionLostError)
            with pytest.raises(SqlConnectionLostError, match=r"connect\(\)"):
                db.execute("select 1")
            assert db.ping()
            assert db.ping(reconnect=False)

    @only_if("has_server")
    def test_an_unreachable_server(self) -> None:
        """``connect`` raises, ``ping`` returns False."""
        db = self.backend(self.unreachable(), retries=0)
        with pytest.raises(SqlConnectionLostError):
            db.connect()
        assert not db.ping()
        db.disconnect()

    @only_if("has_login")
    def test_a_wrong_password_is_refused_and_does_not_show(self) -> None:
        """Access is refused at once, and the error does not quote the password."""
        db = self.backend(self.wrong_password())
        with pytest.raises(SqlAccessError) as caught:
            db.execute("select 1")
        said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {db!r}"
        assert CANARY not in said
        db.disconnect()

    @only_if("can_cut")
    def test_a_lost_connection_is_replaced(self) -> None:
        """After a loss the next statement runs on a fresh connection, without an error."""
        with self.opened() as db:
            self.cut()
            self.add(db, 1)
            assert self.count(db) == 1

    @only_if("can_cut")
    def test_ping_without_and_with_reconnect(self) -> None:
        """Without ``reconnect`` a lost connection is False, with it a fresh one answers."""
        with self.opened() as db:
            self.cut()
            assert not db.ping(reconnect=False)
            assert db.ping(reconnect=True)

    @only_if("can_cut")
    def test_a_loss_inside_of_a_transaction_is_reported(self) -> None:
        """What was done before the loss is undone, so the transaction raises instead of continuing."""
        with self.opened() as db:
            with pytest.raises(SqlConnectionLostError), db.transaction():  # noqa: PT012  # as users write it
                self.add(db, 1)
                self.cut()
                self.add(db, 2)
            assert self.count(db) == 0

    @only_if("can_cut")
    def test_run_begins_again_after_a_loss(self) -> None:
        """``run`` does all of its work again, from the first statement on."""
        with self.opened() as db:
            calls: list[int] = []

            def work(db: SqlBackend) -> int:
                calls.append(1)
                self.add(db, 1)
                if len(calls) == 1:
                    self.cut()
                self.add(db, 2)
                return len(calls)

            assert db.run(work) == 2
            assert self.count(db) == 2
