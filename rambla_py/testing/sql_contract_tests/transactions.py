"""Transactions, alone and among threads."""

from __future__ import annotations

import pytest

from rambla_py.sql import (
    SqlBackend,
    SqlBusyError,
    SqlError,
    SqlIntegrityError,
    SqlOptionError,
    SqlStatementError,
)
from rambla_py.testing.flags import only_if
from rambla_py.testing.sql_contract_tests.case import SqlCase, in_threads

__all__ = ["TransactionTests"]

_THREADS, _ROUNDS = 10, 10


class TransactionTests(SqlCase):
    """Transactions are committed or undone as a whole, and do not lose what others write."""

    def test_commit_and_rollback(self) -> None:
        """A block that ends is committed, one that raises is rolled back, and the error propagates."""
        with self.opened() as db:
            with db.transaction():
                self.add(db, 1)
            with pytest.raises(ZeroDivisionError), db.transaction():  # noqa: PT012  # as users write it
                self.add(db, 2)
                _ = 1 / 0
            assert self.count(db) == 1

    @only_if("has_savepoints")
    def test_nested_transactions(self) -> None:
        """A transaction inside of another is a savepoint: it can be undone alone."""
        with self.opened() as db:
            with db.transaction():
                self.add(db, 1)
                with pytest.raises(SqlIntegrityError), db.transaction():  # noqa: PT012  # as above
                    self.add(db, 2)
                    self.add(db, 1)
                with db.transaction():
                    self.add(db, 3)
            assert [row["id"] for row in db.execute(f"select id from {self.t} order by id").data] == [1, 3]

    @only_if("has_savepoints")
    def test_what_is_outside_undoes_what_is_inside(self) -> None:
        """The end of a savepoint commits nothing."""
        with self.opened() as db:
            with pytest.raises(ZeroDivisionError), db.transaction():  # noqa: PT012  # as above
                with db.transaction():
                    self.add(db, 1)
                _ = 1 / 0
            assert self.count(db) == 0

    @only_if("has_savepoints")
    def test_begin_commit_and_rollback_by_hand(self) -> None:
        """``begin`` opens a transaction or a savepoint; ``commit`` and ``rollback`` end the last one."""
        with self.opened() as db:
            db.begin()
            self.add(db, 1)
            db.begin()
            self.add(db, 2)
            db.rollback()
            db.commit()
            assert self.count(db) == 1
            for end in (db.commit, db.rollback):
                with pytest.raises(SqlStatementError, match="no transaction is open"):
                    end()

    @only_if("shares_database")
    def test_others_do_not_see_what_is_not_committed(self) -> None:
        """A transaction belongs to its thread: another thread does not take part in it."""
        with self.opened() as db:
            with db.transaction():
                self.add(db, 1)
                seen: list[int] = []
                in_threads([lambda: seen.append(self.count(db))])
                assert seen == [0]
            assert self.count(db) == 1

    @only_if("has_isolation")
    def test_an_isolation_level(self) -> None:
        """A level that the database has is taken; another is refused, with those there are."""
        with self.opened() as db:
            with db.transaction(isolation="serializable"):
                self.add(db, 1)
            assert self.count(db) == 1
            with pytest.raises(SqlOptionError, match="SERIALIZABLE"):
                db.transaction(isolation="serialisable")
            with (
                pytest.raises(SqlStatementError, match="outermost"),
                db.transaction(),
                db.transaction(isolation="SERIALIZABLE"),
            ):
                pass

    def test_ten_threads_count_without_losing(self) -> None:
        """Ten threads count one number up, each with statements by themselves: none is lost."""
        with self.opened(retries=200) as db:
            self.add(db, 1)

            def work() -> None:
                for _ in range(_ROUNDS):
                    db.execute(f"update {self.t} set n = n + 1 where id = 1")

            in_threads([work] * _THREADS)
            assert db.execute(f"select n from {self.t}").data == [{"n": _THREADS * _ROUNDS}]

    def test_ten_threads_read_and_write_without_losing(self) -> None:
        """Ten threads read a number and write it back, serializable and done again at a conflict."""
        with self.opened() as db:
            self.add(db, 1)

            def step(db: SqlBackend) -> None:
                row = db.execute(f"select n from {self.t} where id = 1").first
                assert row is not None
                db.execute(f"update {self.t} set n = :n where id = 1", {"n": row["n"] + 1})

            def work() -> None:
                for _ in range(_ROUNDS // 2):
                    db.run(step, isolation="SERIALIZABLE" if self.has_isolation else None, retries=200)

            in_threads([work] * _THREADS)
            assert db.execute(f"select n from {self.t}").data == [{"n": _THREADS * _ROUNDS // 2}]

    def test_threads_wait_for_a_connection(self) -> None:
        """More threads than connections take turns; a wait that is too long is an error to retry."""
        with self.opened(pool_size=1, pool_timeout_s=0.05) as db:
            errors: list[BaseException] = []

            def work() -> None:
                try:
                    db.execute("select 1")
                except SqlError as error:
                    errors.append(error)

            with db.transaction():
                in_threads([work])
            assert [type(error) for error in errors] == [SqlBusyError]
            assert errors[0].retryable  # type: ignore[attr-defined]  # a SqlBusyError, as just compared
            in_threads([work])
            assert len(errors) == 1
