"""Tests of the private database servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from database_fixtures import client
from server_fixtures import mend, require

from rambla_py.sql import SqlBackend
from rambla_py.testing import MariaDbServer, PostgresServer, ServerError
from rambla_py.testing.databases import DatabaseServer


@pytest.fixture(params=("postgres_server", "mariadb_server"))
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Each of the run's databases, with a table of one row."""
    made: DatabaseServer = request.getfixturevalue(request.param)
    with closing(client(made)) as plain:
        plain.cursor().execute("create table kept (n integer)")
        plain.cursor().execute("insert into kept values (7)")
    yield made
    mend(made)  # a test that failed may have left it paused
    with closing(client(made)) as plain:
        plain.cursor().execute("drop table kept")


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_was_committed_is_kept(end: str, server: DatabaseServer):
    """After a kill or a stop, with clients connected, the same server has the same rows on the same port."""
    with closing(client(server)):
        getattr(server, end)()
        assert not server.running
    port = server.port
    server.start()
    assert server.port == port
    with SqlBackend(server.url) as db:
        assert db.execute("select n from kept").data == [{"n": 7}]


def test_a_paused_server_goes_on(server: DatabaseServer):
    """A pause holds the sessions that are there; afterwards they go on."""
    with SqlBackend(server.url, pool_size=1, read_timeout_s=0.3, retries=0) as db:
        server.pause()
        assert not db.ping(reconnect=False)
        server.resume()
        assert db.ping()


@pytest.mark.parametrize("kind", [PostgresServer, MariaDbServer])
def test_a_setting_that_there_is_not(kind: type[DatabaseServer]):
    """A server that refuses its configuration says why."""
    require(kind)
    line = "no_such_setting = on" if kind is PostgresServer else "--no-such-setting"
    with pytest.raises(ServerError, match=r"no.such.setting"), kind(config=[line]):
        pass
