"""This module is the contract suite of SQL backends: what ``SqlBackend`` promises, as tests to inherit."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import sqlalchemy

from rambla_py.errors import OptionError
from rambla_py.sql import (
    Converter,
    SqlAccessError,
    SqlBackend,
    SqlBusyError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlIntegrityError,
    SqlStatementError,
    UnsupportedTypeError,
)
from rambla_py.testing.contract_case import CANARY, only_if

__all__ = ["SqlContract"]

_TIMEOUT_S = 60.0
_THREADS, _ROUNDS = 10, 10
_BERLIN = datetime.timezone(datetime.timedelta(hours=2))

_VALUES: dict[str, tuple[str, Any]] = {
    "integer": ("integer", -5),
    "bigint": ("bigint", 1 << 40),
    "boolean": ("boolean", True),
    "double": ("double", 0.1),
    "numeric": ("numeric(30, 10)", decimal.Decimal("12345678901234567890.0123456789")),
    "varchar": ("varchar(40)", "Grüße, 世界, \U0001f600; 'quoted' \\ %s :name ?"),
    "text": ("text", "x" * 10_000),
    "blob": ("blob", bytes(range(256))),
    "date": ("date", datetime.date(2026, 2, 28)),
    "time": ("time", datetime.time(23, 59, 59, 123_456)),
    "timestamp": ("timestamp", datetime.datetime(2026, 2, 28, 12, 30, 0, 123_456)),
    "timestamptz": ("timestamptz", datetime.datetime(2026, 2, 28, 12, 30, tzinfo=_BERLIN)),
    "interval": ("interval", datetime.timedelta(days=40, microseconds=1)),
    "uuid": ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    "json": ("json", {"a": [1, 2.5, None, True, "x:y"]}),
    "null": ("json", None),
}


class SqlContract:
    """The promises of a SQL backend, on a database of yours. Inherit it, name it ``Test...``, and run pytest.

    Write ``url``; the tests make tables of their own in that database, and drop them. The flags say what
    there is to test; put one down where the database has no such thing, or write the method it asks for.

    ==================  ========================  ==========================================================
    flag                method                    when it is down
    ==================  ========================  ==========================================================
    ``has_server``      ``unreachable``           there is nothing that could be unreachable
    ``has_login``       ``wrong_password``        there are no credentials
    ``can_cut``         ``cut``                   there is no connection to lose
    ``checks_types``                              a column takes values of another type
    ``can_return``                                INSERT has no RETURNING
    ==================  ========================  ==========================================================

    ::

        class TestShop(SqlContract):
            has_server = has_login = can_cut = checks_types = False

            def url(self):
                return "sqlite://"
    """

    has_server: ClassVar[bool] = True
    has_login: ClassVar[bool] = True
    can_cut: ClassVar[bool] = True
    checks_types: ClassVar[bool] = True
    can_return: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in reversed(cls.__mro__[1:]):
            for name, test in vars(base).items():
                flag = getattr(test, "_rambla_flag", None)
                if flag is not None and name not in vars(cls):
                    setattr(cls, name, test if getattr(cls, flag) else None)

    # -- what the author gives ----------------------------------------------------------------------

    def url(self) -> str:
        """Return the URL of the database."""
        raise NotImplementedError("write url()")

    def options(self) -> Mapping[str, Any]:
        """Return what else ``SqlBackend`` is given."""
        return {}

    def unreachable(self) -> str:
        """Return the URL of a database that is not there."""
        raise NotImplementedError("write unreachable(), or say has_server = False")

    def wrong_password(self) -> str:
        """Return the URL with ``CANARY`` as its password, which is wrong."""
        raise NotImplementedError("write wrong_password(), or say has_login = False")

    def cut(self) -> None:
        """Break all connections now; new ones are taken."""
        raise NotImplementedError("write cut(), or say can_cut = False")

    # -- what the tests share -----------------------------------------------------------------------

    @contextmanager
    def opened(self, columns: str = "", **options: Any) -> Iterator[SqlBackend]:
        """Open the backend with a table ``self.t``, of an id, a name and a number unless told otherwise."""
        self.t = f"contract_{uuid.uuid4().hex[:12]}"
        usual = "id integer primary key, name varchar(50) not null unique, n integer"
        with SqlBackend(self.url(), **{**self.options(), **options}) as db:
            db.execute(f"create table {self.t} ({columns or usual})")
            try:
                yield db
            finally:
                db.execute(f"drop table {self.t}")

    def add(self, db: SqlBackend, number: int, name: str | None = "") -> None:
        """Insert a row."""
        name = f"name {number}" if name == "" else name
        db.execute(f"insert into {self.t} values (:id, :name, 0)", {"id": number, "name": name})

    def count(self, db: SqlBackend) -> int:
        """Return the number of rows."""
        row = db.execute(f"select count(*) as many from {self.t}").first
        assert row is not None
        return int(row["many"])

    # -- connections --------------------------------------------------------------------------------

    def test_ping(self) -> None:
        """A backend that is connected answers; one that was disconnected does not, and says why."""
        with self.opened() as db:
            assert db.ping()
            db.disconnect()
            assert not db.ping()
            assert isinstance(db.last_error, SqlConnectionLostError)
            with pytest.raises(SqlConnectionLostError, match=r"connect\(\)"):
                db.execute("select 1")
            db.connect()
            assert db.ping()

    @only_if("has_server")
    def test_an_unreachable_server(self) -> None:
        """``connect`` raises, ``ping`` says no."""
        db = SqlBackend(self.unreachable(), **self.options(), retries=0)
        with pytest.raises(SqlConnectionLostError):
            db.connect()
        assert not db.ping()
        db.disconnect()

    @only_if("has_login")
    def test_a_wrong_password_is_refused_and_does_not_show(self) -> None:
        """Access is refused at once, and the error does not quote the password."""
        db = SqlBackend(self.wrong_password(), **self.options())
        with pytest.raises(SqlAccessError) as caught:
            db.execute("select 1")
        said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {db!r}"
        assert CANARY not in said
        db.disconnect()

    @only_if("can_cut")
    def test_a_lost_connection_is_replaced(self) -> None:
        """After a loss the next statement runs on a fresh connection, and nobody notices."""
        with self.opened() as db:
            self.cut()
            self.add(db, 1)
            assert self.count(db) == 1

    @only_if("can_cut")
    def test_ping_without_and_with_reconnect(self) -> None:
        """Without ``reconnect`` a lost connection is a no, with it a fresh one answers."""
        with self.opened() as db:
            self.cut()
            assert not db.ping(reconnect=False)
            assert db.ping(reconnect=True)

    @only_if("can_cut")
    def test_a_loss_inside_of_a_transaction_is_told(self) -> None:
        """What was done before the loss is undone, so the transaction raises instead of going on."""
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

    # -- statements ---------------------------------------------------------------------------------

    def test_named_places(self) -> None:
        """Values stand for ``:name``; colons in what is quoted are none of them."""
        with self.opened() as db:
            self.add(db, 1, "Ada")
            found = db.execute(
                f"select name, 'at :noon' as told from {self.t} where name = :name", {"name": "Ada"}
            )
            assert found.data == [{"name": "Ada", "told": "at :noon"}]
            assert found.affected_rows == 0
            assert 0 < found.duration_s < _TIMEOUT_S

    def test_positional_places(self) -> None:
        """Values stand for ``?`` in their order; those in what is quoted are none of them."""
        with self.opened() as db:
            self.add(db, 1, "what?")
            sql = f"select id from {self.t} where name = 'what?' and id = ? and n = ?"
            assert db.execute(sql, [1, 0]).data == [{"id": 1}]

    def test_a_missing_value(self) -> None:
        """A place without a value is an error that names it."""
        with self.opened() as db, pytest.raises(SqlStatementError, match="name"):
            db.execute(f"select * from {self.t} where name = :name", {"nam": 1})

    def test_many_rows(self) -> None:
        """A list of mappings, or of sequences, writes a row for each."""
        with self.opened() as db:
            rows = [{"id": at, "name": f"n{at}"} for at in range(20)]
            db.execute(f"insert into {self.t} (id, name) values (:id, :name)", rows)
            db.execute(f"insert into {self.t} (id, name) values (?, ?)", [[20, "a"], [21, "b"]])
            assert self.count(db) == 22

    def test_affected_rows(self) -> None:
        """An UPDATE and a DELETE say how many rows they met."""
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

    def test_an_expression_of_the_core(self) -> None:
        """What SQLAlchemy's Core makes runs as well."""
        with self.opened() as db:
            columns: list[sqlalchemy.Column[Any]] = [sqlalchemy.Column(name) for name in ("id", "name", "n")]
            table = sqlalchemy.Table(self.t, sqlalchemy.MetaData(), *columns)
            assert db.execute(sqlalchemy.insert(table).values(id=1, name="Ada", n=3)).affected_rows == 1
            assert db.execute(sqlalchemy.select(table.c.name).where(table.c.n == 3)).data == [{"name": "Ada"}]

    # -- types --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", _VALUES)
    def test_a_value_comes_back_as_it_went(self, kind: str) -> None:
        """A value goes into a column of its type, and comes back equal."""
        name, value = _VALUES[kind]
        with SqlBackend(self.url(), **self.options()) as db:
            column = db.types.name_of(db.types.resolve(name))
        with self.opened(f"id integer primary key, v {column}") as db:
            types = {"v": name}
            db.execute(f"insert into {self.t} values (1, :v)", {"v": value}, column_types=types)
            found = db.execute(f"select v from {self.t}", column_types=types).data
            assert found == [{"v": value}]
            assert type(found[0]["v"]) is type(value)

    def test_a_value_goes_by_its_class(self) -> None:
        """Without ``column_types`` a dict goes as JSON, and a UUID as a UUID."""
        with SqlBackend(self.url(), **self.options()) as db:
            kinds = [db.types.name_of(db.types.resolve(name)) for name in ("json", "uuid")]
        with self.opened(f"id integer primary key, j {kinds[0]}, u {kinds[1]}") as db:
            given = {"j": {"a": 1}, "u": uuid.UUID(int=7)}
            db.execute(f"insert into {self.t} values (1, :j, :u)", given)
            found = db.execute(f"select j, u from {self.t}", column_types={"j": "json", "u": "uuid"}).first
            assert found == given

    def test_a_converter_of_ones_own(self) -> None:
        """A class with a converter goes in by itself, and comes out where its name is given."""
        address = ipaddress.IPv4Address("10.1.2.3")
        known = Converter("address", ipaddress.IPv4Address, "varchar(15)", str, ipaddress.IPv4Address)
        with self.opened("id integer primary key, a varchar(15)", converters=[known]) as db:
            db.execute(f"insert into {self.t} values (1, :a)", {"a": address})
            assert db.execute(f"select a from {self.t}").data == [{"a": "10.1.2.3"}]
            found = db.execute(f"select a from {self.t}", column_types={"a": "address"})
            assert found.data == [{"a": address}]

    def test_a_value_without_a_type(self) -> None:
        """A value of a class that no type is known for is refused by its name, before anything is sent."""
        with self.opened() as db, pytest.raises(UnsupportedTypeError, match="IPv4Address"):
            db.execute("select :a", {"a": ipaddress.IPv4Address("10.1.2.3")})

    def test_a_type_that_there_is_not(self) -> None:
        """An unknown name of a type is refused, with the nearest one."""
        with self.opened() as db, pytest.raises(UnsupportedTypeError, match="did you mean 'varchar'"):
            db.execute("select 1 as a", column_types={"a": "varchr(3)"})

    # -- errors -------------------------------------------------------------------------------------

    def test_a_constraint_refuses_a_row(self) -> None:
        """A key that is there, a name that is taken and a NULL are errors of integrity, not to be retried."""
        with self.opened() as db:
            self.add(db, 1, "Ada")
            for number, name in ((1, "Grace"), (2, "Ada"), (3, None)):
                with pytest.raises(SqlIntegrityError) as caught:
                    self.add(db, number, name)
                assert not caught.value.retryable
                assert caught.value.code
            assert self.count(db) == 1

    @pytest.mark.parametrize("sql", ["selec 1", "select * from no_such_table", "select nothing_here"])
    def test_a_wrong_statement(self, sql: str) -> None:
        """Syntax, a table and a column that are not there are errors of the statement."""
        with self.opened() as db, pytest.raises(SqlStatementError) as caught:
            db.execute(sql)
        assert not caught.value.retryable

    @only_if("checks_types")
    def test_a_value_that_does_not_fit(self) -> None:
        """A number that is no number, and a text that is too long, are errors of the data."""
        with self.opened() as db:
            for number, name in (("many", "a"), (1, "x" * 51)):
                with pytest.raises(SqlDataError):
                    db.execute(f"insert into {self.t} (n, id, name) values (?, 1, ?)", [number, name])

    def test_values_do_not_show_in_errors(self) -> None:
        """An error, its cause and its context tell no value of the statement."""
        with self.opened() as db, pytest.raises(SqlStatementError) as caught:
            db.execute("select * from no_such_table where secret = :secret", {"secret": CANARY})
        said = f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
        assert CANARY not in said

    # -- transactions -------------------------------------------------------------------------------

    def test_commit_and_rollback(self) -> None:
        """A block that ends is committed, one that raises is rolled back, and the error goes on."""
        with self.opened() as db:
            with db.transaction():
                self.add(db, 1)
            with pytest.raises(ZeroDivisionError), db.transaction():  # noqa: PT012  # as users write it
                self.add(db, 2)
                _ = 1 / 0
            assert self.count(db) == 1

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

    def test_what_is_outside_undoes_what_is_inside(self) -> None:
        """The end of a savepoint commits nothing."""
        with self.opened() as db:
            with pytest.raises(ZeroDivisionError), db.transaction():  # noqa: PT012  # as above
                with db.transaction():
                    self.add(db, 1)
                _ = 1 / 0
            assert self.count(db) == 0

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

    def test_others_do_not_see_what_is_not_committed(self) -> None:
        """A transaction belongs to its thread: another thread does not take part in it."""
        with self.opened() as db:
            with db.transaction():
                self.add(db, 1)
                seen: list[int] = []
                _in_threads([lambda: seen.append(self.count(db))])
                assert seen == [0]
            assert self.count(db) == 1

    def test_an_isolation_level(self) -> None:
        """A level that the database has is taken; another is refused, with those there are."""
        with self.opened() as db:
            with db.transaction(isolation="serializable"):
                self.add(db, 1)
            assert self.count(db) == 1
            with pytest.raises(OptionError, match="SERIALIZABLE"):
                db.transaction(isolation="serialisable")
            with (
                pytest.raises(SqlStatementError, match="outermost"),
                db.transaction(),
                db.transaction(isolation="SERIALIZABLE"),
            ):
                pass

    # -- many threads -------------------------------------------------------------------------------

    def test_ten_threads_count_without_losing(self) -> None:
        """Ten threads count one number up, each with statements by themselves: none is lost."""
        with self.opened() as db:
            self.add(db, 1)

            def work() -> None:
                for _ in range(_ROUNDS):
                    db.execute(f"update {self.t} set n = n + 1 where id = 1")

            _in_threads([work] * _THREADS)
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
                    db.run(step, isolation="SERIALIZABLE", retries=200)

            _in_threads([work] * _THREADS)
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
                _in_threads([work])
            assert [type(error) for error in errors] == [SqlBusyError]
            assert errors[0].retryable  # type: ignore[attr-defined]  # a SqlBusyError, as just compared
            _in_threads([work])
            assert len(errors) == 1


def _in_threads(works: list[Callable[[], Any]]) -> None:
    """Run each on a thread of its own; raise what the first of them raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    end = time.monotonic() + _TIMEOUT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        assert not thread.is_alive(), f"a thread hangs for over {_TIMEOUT_S:g} s"
    if errors:
        raise errors[0]
