"""Contract suite of SQL backends, as tests to inherit."""

from __future__ import annotations

from rambla_py.testing.sql_contract_tests.connections import ConnectionTests
from rambla_py.testing.sql_contract_tests.statements import StatementTests
from rambla_py.testing.sql_contract_tests.transactions import TransactionTests
from rambla_py.testing.sql_contract_tests.values import ValueTests

__all__ = ["SqlContract"]


class SqlContract(ConnectionTests, StatementTests, ValueTests, TransactionTests):
    """The contract of a SQL backend, on your database. Inherit it, name it ``Test...``, and run pytest.

    Write ``url``; the tests create tables of their own in that database, and drop them. Set a flag to False
    if the database lacks the feature, or write the method that its tests need.

    ===================  ========================  =========================================================
    flag                 method                    False if
    ===================  ========================  =========================================================
    ``has_server``       ``unreachable``           there is nothing that could be unreachable
    ``has_login``        ``wrong_password``        there are no credentials
    ``can_cut``          ``cut``                   there is no connection to lose
    ``checks_types``                               a column accepts values of another type
    ``can_return``                                 INSERT has no RETURNING
    ``has_savepoints``                             a transaction cannot be nested
    ``has_isolation``                              there is no isolation level SERIALIZABLE
    ``shares_database``                            two connections do not see the same database
    ===================  ========================  =========================================================

    With ``for_asyncio = True`` the same tests run on ``AsyncSqlBackend``.

    ::

        class TestShop(SqlContract):
            has_server = has_login = can_cut = checks_types = shares_database = False

            def url(self):
                return "sqlite://"
    """
