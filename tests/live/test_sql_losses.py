"""Tests of lost connections of the sql handler."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

import pytest
from forks import in_child
from sql_worker import ARRAYS, Base, Proxies, pick
from waiting import in_background, kinds, wait_until

from rambla_py.errors import (
    ConnectionLostError,
    UnknownOutcomeError,
)
from rambla_py.sql import (
    SqlAccessError,
    SqlBackend,
    SqlConnectionLostError,
    SqlUnknownOutcomeError,
)


def test_a_loss_before_the_write(served: Base):
    """A connection that ended while idle: nothing was applied, and no outcome is unknown."""
    with served.worker(create_table=True) as w:
        served.server.restart()
        assert kinds(w.publish(["x"])) == {SqlConnectionLostError}
        with pytest.raises(ConnectionLostError):
            w.handler.ping(w.connection)
        assert kinds(w.publish(["x"])) == {SqlConnectionLostError}
    assert served.rows() == []


@pytest.mark.parametrize("upsert", [False, True])
def test_a_loss_during_the_commit(upsert: bool, served: Base, fault_proxy: Proxies):
    """When the answer to the commit does not come the outcome is unknown, for each message."""
    proxy = fault_proxy(served.server)
    url = served.server.url_at(proxy.host, proxy.port)
    with served.worker(url=url, create_table=True, upsert=upsert) as w:
        assert w.publish(["x"]) == [None]
        before = proxy.bytes_down
        assert w.publish(["y"] * 3) == [None] * 3
        # The same batch has the same answers: all but the last few bytes of them are let through.
        proxy.cut_after(proxy.bytes_down - before - 4, direction="down")
        answers = w.publish(["z"] * 3)
    assert kinds(answers) == {SqlUnknownOutcomeError}
    assert isinstance(answers[0], UnknownOutcomeError)
    assert proxy.cuts == 1
    assert len(served.rows()) >= 2


@pytest.mark.parametrize("options", [{}, *ARRAYS], ids=str)
@pytest.mark.parametrize("how", ["cut", "terminated"])
def test_a_connection_that_went_while_it_was_idle(
    how: str, options: dict[str, Any], postgres: Base, fault_proxy: Proxies
):
    """It is noticed before anything is written: what comes next is unsent, and not unknown."""
    proxy = fault_proxy(postgres.server)
    url = postgres.server.url_at(proxy.host, proxy.port)
    with postgres.worker(url=url, create_table=True, **options) as w:
        assert w.publish(["x"]) == [None]
        if how == "cut":
            proxy.cut()
        else:
            cursor = w.connection.raw.execute("SELECT pg_backend_pid()")
            postgres.db.execute("SELECT pg_terminate_backend(:pid)", {"pid": cursor.fetchone()[0]})
        wait_until(lambda: bool(select.select([w.connection.raw.fileno()], [], [], 0)[0]))
        assert kinds(w.publish(["y"] * 3)) == {SqlConnectionLostError}
    assert len(postgres.rows()) == 1


def test_a_loss_in_the_middle_of_a_batch(served: Base, fault_proxy: Proxies):
    """A batch that was not written whole is not applied at all."""
    proxy = fault_proxy(served.server)
    url = served.server.url_at(proxy.host, proxy.port)
    with served.worker(url=url, create_table=True) as w:
        # More than sockets hold, so that it is the writing that fails.
        proxy.cut_after(1_000_000)
        answers = w.publish(["x" * 40_000] * 500)
    assert kinds(answers) == {SqlConnectionLostError}
    assert len(answers) == 500
    assert served.rows() == []


def test_a_server_that_stops_answering(served: Base):
    """Silence is bounded by ``read_timeout_s``."""
    with served.worker({"read_timeout_s": 0.5}, create_table=True) as w:
        served.server.pause()
        began = time.monotonic()
        answers = w.publish(["a", "b"])
        took_s = time.monotonic() - began
        served.server.resume()
    assert 0.4 < took_s < 5
    assert kinds(answers) <= {SqlConnectionLostError, SqlUnknownOutcomeError}
    assert len(answers) == 2


def test_close_wakes_who_waits(served: Base):
    """Closing from another thread ends a wait at once, and twice does no harm."""
    with served.worker({"read_timeout_s": 60}, create_table=True) as w:
        served.server.pause()
        thread, answers = in_background(lambda: w.publish(["a", "b"]))
        wait_until(lambda: w.connection._busy.locked())
        w.close()
        thread.join(10)
        assert not thread.is_alive()
        w.close()
        served.server.resume()
    assert kinds(answers) <= {SqlConnectionLostError, SqlUnknownOutcomeError}
    assert len(answers) == 2


def test_a_forked_child_leaves_the_connection_alone(base: Base):
    """Closing in a forked child does not close the parent's connection."""
    with base.worker(create_table=True) as w:
        assert in_child(w.close) == 0
        assert w.publish(["x"]) == [None]


def test_a_file_that_is_moved_away(tmp_path: Path, unique_name: str):
    """SQLite would go on with the file that was moved: it counts as a loss, and the new file is written."""
    base = pick("sqlite", str, tmp_path, unique_name)
    with base.worker(create_table=True) as w:
        assert w.publish([1]) == [None]
        (tmp_path / "shop.db").rename(tmp_path / "shop.old")
        assert kinds(w.publish([2, 3])) == {SqlConnectionLostError}
    base.db.disconnect()
    with base.worker(create_table=True) as w:
        assert w.publish([2, 3]) == [None, None]
    assert len(SqlBackend(base.url).execute(f"select * from {base.table}").data) == 2


def test_a_file_that_may_not_be_written(tmp_path: Path, unique_name: str):
    """It is a matter of access, as a server that is read-only: messages wait for a person."""
    base = pick("sqlite", str, tmp_path, unique_name)
    base.make("id varchar(40), payload text")
    base.db.disconnect()
    with base.worker(url=f"sqlite:///file:{tmp_path}/shop.db?mode=ro&uri=true") as w:
        assert kinds(w.publish([1, 2])) == {SqlAccessError}
