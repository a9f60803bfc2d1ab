"""Statements: placeholders, results and streams."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy

from rambla_py.sql import (
    SqlStatementError,
)
from rambla_py.testing.flags import only_if
from rambla_py.testing.sql_contract_tests.case import TIMEOUT_S, SqlCase

__all__ = ["StatementTests"]


class StatementTests(SqlCase):
    """Statements get their values, and give their results."""

    def test_named_places(self) -> None:
        """``:name`` is replaced by its value; colons inside quotes are not."""
        with self.opened() as db:
            self.add(db, 1, "Ada")
            found = db.execute(
                f"select name, 'at :noon' as label from {self.t} where name = :name", {"name": "Ada"}
            )
            assert found.data == [{"name": "Ada", "label": "at :noon"}]
            assert found.affected_rows == 0
            assert 0 < found.duration_s < TIMEOUT_S

    def test_positional_places(self) -> None:
        """``?`` is replaced by the values in their order; those inside quotes are not."""
        with self.opened() as db:
            self.add(db, 1, "what?")
            sql = f"select id from {self.t} where name = 'what?' and id = ? and n = ?"
            assert db.execute(sql, [1, 0]).data == [{"id": 1}]

    def test_a_missing_value(self) -> None:
        """A place without a value is an error that names it."""
        with self.opened() as db, pytest.raises(SqlStatementError, match="name"):
            db.execute(f"select * from {self.t} where name = :name", {"nam": 1})

    def test_many_rows(self) -> None:
        """A list of mappings writes a row for each; ``execute_many`` also takes lists of values."""
        with self.opened() as db:
            rows = [{"id": at, "name": f"n{at}"} for at in range(20)]
            db.execute(f"insert into {self.t} (id, name) values (:id, :name)", rows)
            made = db.execute_many(f"insert into {self.t} (id, name) values (?, ?)", [[20, "a"], [21, "b"]])
            db.execute_many(f"insert into {self.t} (id, name) values (:id, :name)", [{"id": 22, "name": "c"}])
            assert made.affected_rows == 2
            assert db.execute_many(f"insert into {self.t} (id, name) values (?, ?)", []).affected_rows == 0
            assert self.count(db) == 23

    def test_affected_rows(self) -> None:
        """An UPDATE and a DELETE return how many rows they matched."""
        with self.opened() as db:
            for number in range(5):
                self.add(db, number)
            assert db.execute(f"update {self.t} set n = 7 where id < :at", {"at": 3}).affected_rows == 3
            assert db.execute(f"delete from {self.t} where n = ?", [7]).affected_rows == 3
            assert db.execute(f"delete from {self.t} where n = ?", [7]).affected_rows == 0

    @only_if("can_return")
    def test_returning(self) -> None:
        """``returning`` gives columns of the rows that were written, and the id of the last one."""
        with self.opened() as db:
            sql = f"insert into {self.t} values (7, 'Ada', 1), (8, 'Grace', 2)"
            made = db.execute(sql, returning=["id", "name"])
            assert made.data == [{"id": 7, "name": "Ada"}, {"id": 8, "name": "Grace"}]
            assert (made.affected_rows, made.last_insert_id) == (2, 8)

    def test_surplus_values_are_refused(self) -> None:
        """A value without a placeholder, as of a forgotten WHERE, is an error before anything is written."""
        with self.opened() as db:
            for number in (1, 2):
                self.add(db, number)
            wrong: list[tuple[str, Any]] = [
                (f"update {self.t} set n = ?", (1, 99)),
                (f"update {self.t} set n = :n", {"n": 1, "id": 99}),
                (f"update {self.t} set n = :n", [{"n": 1, "id": 99}]),
                (f"insert into {self.t} (id, name) values (?, ?)", [3, "a", "b"]),
                (f"insert into {self.t} (id, name) values (3, ?)", [["a", "b"]]),
                (f"insert into {self.t} (id, name) values (3, ?)", "a"),
            ]
            for sql, params in wrong:
                with pytest.raises(SqlStatementError):
                    db.execute(sql, params)
            with pytest.raises(SqlStatementError, match="row 1"):
                db.execute_many(f"insert into {self.t} (id, name) values (?, ?)", [[3, "a"], [4, "b", "c"]])
            found = db.execute(f"select id, n from {self.t} order by id").data
            assert found == [{"id": 1, "n": 0}, {"id": 2, "n": 0}]

    def test_unknown_columns_are_refused(self) -> None:
        """An unknown name in ``column_types`` or ``returning`` is an error, and nothing is written."""
        with self.opened() as db:
            insert = f"insert into {self.t} (id, name) values (:id, 'Ada')"
            with pytest.raises(SqlStatementError, match="'nam'"):
                db.execute(insert, {"id": 1}, column_types={"nam": "text"})
            with pytest.raises(SqlStatementError, match=r"'nam'.*did you mean 'name'"):
                db.execute(f"select name from {self.t}", column_types={"nam": "text"})
            with pytest.raises(SqlStatementError):
                db.execute(insert, {"id": 1}, returning=["Nam"])
            assert self.count(db) == 0

    def test_two_columns_of_one_name(self) -> None:
        """A row is a dict, so that the second of two columns with one name would replace the first."""
        with self.opened() as db, pytest.raises(SqlStatementError, match="two columns named 'a'"):
            db.execute("select 1 as a, 2 as a")

    def test_a_placeholder_with_a_cast(self) -> None:
        """``:a::int`` is a cast where the database has it; elsewhere the error says what to write instead."""
        with self.opened() as db:
            try:
                assert db.execute("select :a::integer as a", {"a": 5}).data == [{"a": 5}]
            except SqlStatementError as error:
                assert "write CAST(:a AS type)" in str(error)  # noqa: PT017  # either is right
            assert db.execute("select cast(:a as char(1)) as a", {"a": "x"}).data == [{"a": "x"}]

    def test_a_stream(self) -> None:
        """``stream`` gives all rows in batches, and returns its connection at the end and on ``close``."""
        with self.opened(pool_size=1, pool_timeout_s=5.0) as db:
            db.execute_many(f"insert into {self.t} values (?, ?, 0)", [[at, f"n{at}"] for at in range(50)])
            sql = f"select id from {self.t} where id >= :least order by id"
            with db.stream(sql, {"least": 3}, batch_size=7) as rows:
                assert [row["id"] for row in rows] == list(range(3, 50))
            assert self.count(db) == 50
            with db.stream(sql, {"least": 0}, batch_size=7) as rows:
                assert next(rows) == {"id": 0}
            assert self.count(db) == 50
            with db.transaction(), db.stream(sql, {"least": 48}) as rows:
                assert [row["id"] for row in rows] == [48, 49]
            with pytest.raises(SqlStatementError, match="goes with queries"):
                db.stream(f"delete from {self.t}")
            with pytest.raises(SqlStatementError):
                db.stream("select * from no_such_table")
            assert self.count(db) == 50

    def test_an_expression_of_the_core(self) -> None:
        """What SQLAlchemy's Core makes runs as well."""
        with self.opened() as db:
            columns: list[sqlalchemy.Column[Any]] = [sqlalchemy.Column(name) for name in ("id", "name", "n")]
            table = sqlalchemy.Table(self.t, sqlalchemy.MetaData(), *columns)
            assert db.execute(sqlalchemy.insert(table).values(id=1, name="Ada", n=3)).affected_rows == 1
            assert db.execute(sqlalchemy.select(table.c.name).where(table.c.n == 3)).data == [{"name": "Ada"}]
