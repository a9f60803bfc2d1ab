"""Contract tests of ``FallbackDialect``: databases for which SQLAlchemy has a dialect, and rambla_py none."""

from __future__ import annotations

import pytest
import sqlalchemy.dialects
import test_contract_sql_backend as known

from rambla_py.sql import FallbackDialect, SqlBackend, SqlDialect, find_dialect, register_dialect

sqlalchemy.dialects.registry.register(
    "plainlite", "sqlalchemy.dialects.sqlite.pysqlite", "SQLiteDialect_pysqlite"
)
sqlalchemy.dialects.registry.register("plainmy", "sqlalchemy.dialects.mysql.pymysql", "MySQLDialect_pymysql")


class TestFallbackOnMariaDb(known.TestMariaDbBackend):
    """PyMySQL without anything that rambla_py knows of it; a loss is recognised by ``is_disconnect``."""

    has_login = False  # the driver's error for a wrong password is one of many

    def url(self) -> str:
        return super().url().replace("mysql://", "plainmy://")

    def unreachable(self) -> str:
        return super().unreachable().replace("mysql://", "plainmy://")


def test_other_drivers_of_a_known_database_use_the_fallback() -> None:
    """The dialect of rambla_py is for its own driver."""
    assert find_dialect("mysql", "mysql+mysqldb") is FallbackDialect
    assert find_dialect("mysql", "mysql+pymysql") is not FallbackDialect
    assert find_dialect("plainlite") is FallbackDialect
    with SqlBackend("plainlite://") as db:
        assert db.execute("select :a as a", {"a": 1}).data == [{"a": 1}]


class ShopDialect(SqlDialect):
    """A dialect of the application's own."""

    name = "shoplite"
    driver = "sqlite+pysqlite"
    in_process = True


def test_a_dialect_by_a_call_and_by_its_import_path() -> None:
    """A dialect is found when it is registered, and by ``module:Class`` without that."""
    path = f"{__name__}:ShopDialect"
    with SqlBackend(path) as db:
        assert (type(db.database.dialect), db.ping()) == (ShopDialect, True)
    register_dialect(ShopDialect)
    assert type(SqlBackend("shoplite://").database.dialect) is ShopDialect
    with pytest.raises(ValueError, match="must be a subclass of SqlDialect"):
        SqlBackend(f"{__name__}:pytest")
    with pytest.raises(ValueError, match="must set name and driver"):
        register_dialect(type("Nameless", (SqlDialect,), {}))
