"""The contract of SQL backends on DuckDB, and the ``sql`` handler."""

from __future__ import annotations

from pathlib import Path

import pytest

import rambla_py as rambla
from rambla_py.sql import SqlBackend, find_dialect
from rambla_py.testing import SqlContract


class TestDuckDb(SqlContract):
    """A file of DuckDB."""

    has_login = can_cut = checks_types = has_savepoints = has_isolation = False

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "shop.duckdb"

    def url(self) -> str:
        return f"duckdb:///{self.path}"

    def unreachable(self) -> str:
        return f"duckdb:///{self.path.parent}/missing/shop.duckdb"


def test_it_is_found_by_its_name() -> None:
    """The entry point of the package announces the dialect."""
    assert find_dialect("duckdb").__name__ == "DuckDbDialect"


def test_messages_become_rows(tmp_path: Path) -> None:
    """The ``sql`` handler writes to DuckDB, and finds the row that is refused."""
    url = f"duckdb:///{tmp_path}/shop.duckdb"
    with SqlBackend(url) as db:
        db.execute("create table orders (id varchar primary key, total integer check (total > 0))")
        options = {"columns": ["total"], "upsert": True}
        config = {
            "sql": {"connections": {"main": {"url": url}}, "channels": {"orders": {"options": options}}}
        }
        with rambla.Rambla(config) as app:
            receipt = app.publish_many("orders", [{"total": 1}, {"total": -1}, {"total": 3}])
            statuses = [outcome.status for outcome in receipt.outcomes(timeout_s=20)]
        assert statuses == ["ok", "fatal", "ok"]
        assert db.execute("select total from orders order by total").data == [{"total": 1}, {"total": 3}]
