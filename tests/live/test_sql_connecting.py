"""Tests of the sql handler's connect: tables, logins, TLS, URLs, callables."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from database_fixtures import client
from sql_worker import Base, pick
from waiting import in_background, kinds

import rambla_py as rambla
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
)
from rambla_py.sql import (
    SqlAccessError,
    SqlConnectionLostError,
    SqlPermissionError,
    TlsTable,
)
from rambla_py.testing.databases import DatabaseServer
from rambla_py.testing.servers import TlsFiles


def test_a_table_that_is_not_there(base: Base):
    """Connecting fails with the name of the table and what to do: an operator must act, and messages wait."""
    base.db.connect()
    error = base.refusal()
    assert type(error) is SqlAccessError
    assert f"there is no table '{base.table}'" in str(error)
    assert "create_table = true" in str(error)


def test_a_column_that_is_not_there(base: Base):
    """Connecting fails with the name of the column, and the nearest one."""
    base.make("id varchar(40), city text")
    error = base.refusal(columns=["citty"])
    assert type(error) is SqlAccessError
    assert "has no column 'citty'; did you mean 'city'?" in str(error)


def test_an_upsert_without_a_key(base: Base):
    """Connecting fails: each message would be refused, or on MySQL come twice. A view is left to the server."""
    base.make("id varchar(40), payload text")
    error = base.refusal(upsert=True)
    assert type(error) is SqlAccessError
    assert "no unique key on 'id'" in str(error)
    base.db.execute(f"create unique index {base.table}_i on {base.table} (id)")
    view = f"{base.table}_v"
    base.db.execute(f"create view {view} as select * from {base.table}")
    for table in (base.table, view) if base.kind != "sqlite" else (base.table,):
        with base.worker(table=table, upsert=True) as w:
            assert w.deliver([w.message(1, "a")]) == [None]
            assert w.deliver([w.message(2, "a")]) == [None]
        assert base.rows() == [("a", "2")]


def test_a_table_that_goes_meanwhile(base: Base):
    """A table that is dropped while the worker runs counts as a loss: the messages wait until it is back."""
    columns = "id varchar(40), payload text"
    base.make(columns)
    with base.worker() as w:
        assert w.publish([1]) == [None]
        base.db.execute(f"drop table {base.table}")
        answers = w.publish([2, 3])
    assert kinds(answers) == {SqlConnectionLostError}
    assert f"there is no table '{base.table}'" in str(answers[0])
    base.make(columns)
    with base.worker() as w:
        assert w.publish([2, 3]) == [None, None]
    assert len(base.rows()) == 2


def test_a_table_that_goes_is_made_again(base: Base):
    """With ``create_table`` the next connection makes it, so nothing is lost."""
    table = {"table": base.table, "create_table": True, "backoff": {"initial_s": 0.01}}
    channel = {"orders": {"options": table}}
    with rambla.Rambla({"sql": {"connections": {"main": {"url": base.url}}, "channels": channel}}) as app:
        app.publish("orders", 1).result(timeout_s=20)
        base.db.execute(f"drop table {base.table}")
        outcomes = app.publish_many("orders", [2, 3]).outcomes(timeout_s=20)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    assert len(base.rows()) == 2


@pytest.mark.parametrize("how", [{"copy": False}, {"upsert": True}, {}])
def test_a_table_that_changes_meanwhile(how: dict[str, Any], postgres: Base):
    """A migration gives a column another type: the next connection looks at it anew, so nothing is lost."""
    postgres.make("id varchar(40) primary key, n integer")
    options = {"table": postgres.table, "columns": ["n"], "backoff": {"initial_s": 0.01}, **how}
    channel = {"orders": {"options": options}}
    with rambla.Rambla({"sql": {"connections": {"main": {"url": postgres.url}}, "channels": channel}}) as app:
        app.publish("orders", {"n": 1}).result(timeout_s=20)
        postgres.db.execute(f"alter table {postgres.table} alter n type text")
        outcomes = app.publish_many("orders", [{"n": 2}, {"n": "three"}]).outcomes(timeout_s=20)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    assert sorted(n for (n,) in postgres.rows("select n from {}")) == ["1", "2", "three"]


def test_what_the_user_may_not_write(postgres: Base):
    """A missing permission takes the channel down: messages wait until an operator has granted it."""
    postgres.make("id varchar(40), payload text")
    postgres.db.execute(f"create role r_{postgres.table} login password 's3cret'")
    server = postgres.server
    url = f"postgresql://r_{postgres.table}:s3cret@{server.host}:{server.port}/{server.database}"
    with postgres.worker(url=url) as w:
        answers = w.publish([1, 2])
        assert kinds(answers) == {SqlPermissionError}
        assert isinstance(answers[0], AccessError)
    postgres.db.execute(f"grant insert on {postgres.table} to r_{postgres.table}")
    with postgres.worker(url=url) as w:
        assert w.publish([1, 2]) == [None, None]


def test_a_database_that_does_not_exist(served: Base):
    """A wrong name in the URL needs an operator."""
    url, _, _ = served.url.rpartition("/")
    error = served.refusal(url=f"{url}/nowhere")
    assert type(error) is SqlAccessError
    assert "nowhere" in str(error)


def test_many_workers_make_one_table(base: Base):
    """Workers that start together all find the table, whoever made it."""

    def work() -> list[Any]:
        with base.worker(create_table=True) as w:
            return w.publish([1])

    runs = [in_background(work) for _ in range(6)]
    for thread, _ in runs:
        thread.join(20)
    assert [answers for _, answers in runs] == [[None]] * 6
    assert len(base.rows()) == 6


def test_wrong_password(served: Base):
    """Refused credentials are an ``AccessError`` that does not tell the password."""
    server: DatabaseServer = served.server
    error = served.refusal(server.url_at(server.host, server.port, "hunter2-canary"), create_table=True)
    assert isinstance(error, AccessError)
    assert "hunter2-canary" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


def test_tls(served: Base, tls_files: TlsFiles):
    """With TLS the server's certificate is checked against the authority and the name."""
    trusting = {"tls": TlsTable(ca_file=str(tls_files.authority))}
    with served.worker(trusting, create_table=True) as w:
        assert w.publish([1]) == [None]
        cursor = w.connection.raw.cursor()
        if served.kind == "postgres":
            cursor.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            assert cursor.fetchone() == (True,)
        else:
            cursor.execute("show status like 'Ssl_cipher'")
            assert cursor.fetchone()[1]


def test_tls_by_an_unknown_authority(served: Base):
    """A certificate that nobody known has signed is refused; ``verify = false`` takes it."""
    assert type(served.refusal(settings={"tls": True})) is SqlAccessError
    with served.worker({"tls": TlsTable(verify=False)}, create_table=True) as w:
        assert w.publish([1]) == [None]


def test_a_file_that_is_not_there(tmp_path: Path, unique_name: str):
    """Without ``create_table`` nobody makes an empty file of a URL with a slip in it."""
    base = pick("sqlite", str, tmp_path, unique_name)
    refused = base.refusal()
    assert type(refused) is SqlConnectionLostError
    assert "there is no such file" in str(refused)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path, unique_name: str):
    """Connecting to what is no database fails, so messages wait."""
    base = pick("sqlite", str, tmp_path, unique_name)
    (tmp_path / "shop.db").write_bytes(b"no database at all" * 100)
    assert type(base.refusal(create_table=True)) is SqlConnectionLostError
    base.db.disconnect()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("oracle://u:canary@h/d", "the driver of oracle cannot be imported"),
        ("postgresql+pg8000://u:canary@h/d", "the driver of postgresql+pg8000 cannot be imported"),
        ("canary no url", "a url with a space"),
        ("postgresq://u:canary@h/d", "no SQL dialect for 'postgresq'; did you mean 'postgresql'?"),
        ("postgresql://u:canary@h:port/d", "not of the form"),
        ("postgresql://u:1234/canary@h/d", "percent-encode"),
        ("sqlite://u:canary@h/d", "SQLite with a host"),
        ("postgresql://u:canary@h/d?sslmod=require", "unknown parameter 'sslmod'; did you mean 'sslmode'?"),
        ("postgresql://u:canary@h/d?row_factory=x", "unknown parameter 'row_factory'"),
        ("mysql://u:canary@h/d?ssl_mode=REQUIRED", "unknown parameter 'ssl_mode'"),
        ("mysql://u:canary@h/d?charset=canary", "wrong value for the parameter 'charset'"),
        ("mysql://u:canary@h/d?read_timeout=canary", "wrong value for the parameter 'read_timeout'"),
        ("mysql://u:canary@h/d?cursorclass=canary", "unknown parameter 'cursorclass'"),
        ("sqlite:///x.db?timeout=canary", "wrong value for the parameter 'timeout'"),
        ("sqlite:///x.db?mode=ro", "unknown parameter 'mode'; SQLite reads it from"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, reason: str):
    """A wrong URL is refused with the configuration, and is not quoted."""
    table = {"connections": {"main": {"url": url}}, "channels": {"orders": {}}}
    with pytest.raises(rambla.ConfigError) as caught:
        rambla.load_config({"sql": table})
    assert reason in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"columns": {"a": "payloda.x"}}, "comes from 'payloda.x'"),
        ({"columns": ["a"], "json_column": "a"}, "named twice"),
        ({"upsert": True, "id_column": ""}, "upsert without an id_column"),
        ({"id_column": "", "json_column": ""}, "no columns; set columns, id_column or json_column"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], reason: str):
    """A wrong mapping is refused with the configuration."""
    table = {
        "connections": {"main": {"url": "sqlite://"}},
        "channels": {"orders": {"options": options}},
    }
    with pytest.raises(rambla.ConfigError, match=reason):
        rambla.load_config({"sql": table})


def test_destination(base: Base):
    """A callable payload is given the driver's own connection, in autocommit."""
    with base.worker(create_table=True) as w:
        cursor = w.handler.destination(w.connection).cursor()
        cursor.execute(f"insert into {base.table} (id) values ('by hand')")
        assert base.rows("select id from {}") == [("by hand",)]


def test_ping(base: Base):
    """A ping asks the server, and raises once the connection is closed."""
    with base.worker(create_table=True) as w:
        w.handler.ping(w.connection)
        w.close()
        with pytest.raises(ConnectionLostError):
            w.handler.ping(w.connection)


def test_the_server_really_runs(served: Base):
    """The plain driver sees what the handler wrote."""
    with served.worker(create_table=True) as w, closing(client(served.server)) as plain:
        w.publish([1])
        cursor = plain.cursor()
        cursor.execute(f"select count(*) from {served.table}")
        assert cursor.fetchone() == (1,)
