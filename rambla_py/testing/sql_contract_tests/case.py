"""What the author of a SQL backend declares to the contract suite, and what its tests share."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from rambla_py.sql import SqlBackend
from rambla_py.testing.blocking_backend import BlockingBackend
from rambla_py.testing.flags import FlaggedTests

__all__ = ["TIMEOUT_S", "SqlCase", "in_threads"]

TIMEOUT_S = 60.0


class SqlCase(FlaggedTests):
    """A database with its flags; see ``SqlContract``."""

    _rambla_suite: ClassVar[bool] = True  # the pytest plugin explains failures of such a class

    for_asyncio: ClassVar[bool] = False
    has_server: ClassVar[bool] = True
    has_login: ClassVar[bool] = True
    can_cut: ClassVar[bool] = True
    checks_types: ClassVar[bool] = True
    can_return: ClassVar[bool] = True
    has_savepoints: ClassVar[bool] = True
    has_isolation: ClassVar[bool] = True
    shares_database: ClassVar[bool] = True

    # -- what the author gives ----------------------------------------------------------------------

    def url(self) -> str:
        """Return the URL of the database."""
        raise NotImplementedError("write url()")

    def options(self) -> Mapping[str, Any]:
        """Return further options of ``SqlBackend``."""
        return {}

    def unreachable(self) -> str:
        """Return the URL of a database that does not answer."""
        raise NotImplementedError("write unreachable(), or set has_server = False")

    def wrong_password(self) -> str:
        """Return the URL with ``CANARY`` as its password, which is wrong."""
        raise NotImplementedError("write wrong_password(), or set has_login = False")

    def cut(self) -> None:
        """Break all connections now; new ones are accepted."""
        raise NotImplementedError("write cut(), or set can_cut = False")

    # -- what the tests share -----------------------------------------------------------------------

    def backend(self, url: str | None = None, **options: Any) -> SqlBackend:
        """Return the backend under test, not connected yet."""
        kind: Any = BlockingBackend if self.for_asyncio else SqlBackend
        made: SqlBackend = kind(url or self.url(), **{**self.options(), **options})
        return made

    @contextmanager
    def opened(self, columns: str = "", **options: Any) -> Iterator[SqlBackend]:
        """Open the backend with a table ``self.t``, of an id, a name and a number unless given."""
        self.t = f"contract_{uuid.uuid4().hex[:12]}"
        usual = "id integer primary key, name varchar(50) not null unique, n integer"
        with self.backend(**options) as db:
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


def in_threads(works: list[Callable[[], Any]]) -> None:
    """Run each on a thread of its own; raise what the first of them raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    end = time.monotonic() + TIMEOUT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        assert not thread.is_alive(), f"a thread hangs for over {TIMEOUT_S:g} s"
    if errors:
        raise errors[0]
