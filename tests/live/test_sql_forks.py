"""Tests of SQLite files over a fork: nothing that SQLite has open crosses it, and the worker goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from forks import in_child
from sql_worker import Base, pick


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path, unique_name: str) -> Base:
    base = pick("sqlite", request.getfixturevalue, tmp_path, unique_name)
    base.make("id varchar(40) primary key, n integer")
    base.db.disconnect()
    return base


def open_files(folder: Path) -> list[str]:
    """Return the open files of this process in a folder."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [target for target in targets if target.startswith(str(folder))]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("options", [{}, {"wal": True}], ids=str)
def test_no_open_file_crosses_a_fork(options: dict[str, bool], sqlite: Base, tmp_path: Path) -> None:
    """SQLite in the child would assume its parent's locks. Both sides write on, the parent without a loss."""
    with sqlite.worker(**options) as worker:
        assert worker.deliver([worker.message({"n": 1}, "first")]) == [None]
        assert open_files(tmp_path) != []

        def child() -> None:
            assert open_files(tmp_path) == []
            with sqlite.worker(**options) as other:
                assert other.deliver([other.message({"n": 2}, "child's")]) == [None]

        assert in_child(child) == 0
        assert worker.deliver([worker.message({"n": 3}, "second")]) == [None]
        worker.handler.ping(worker.connection)
    sqlite.db.connect()
    assert sorted(sqlite.rows("select n from {}")) == [(1,), (2,), (3,)]
    sqlite.db.disconnect()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_callable_gets_a_connection_after_a_fork(sqlite: Base) -> None:
    with sqlite.worker() as worker:
        assert in_child(lambda: None) == 0
        raw = worker.handler.destination(worker.connection)
        assert raw.execute("select 1").fetchone() == (1,)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_file_that_is_gone_after_a_fork_is_a_lost_connection(sqlite: Base, tmp_path: Path) -> None:
    """The worker connects again, as after any loss."""
    with sqlite.worker() as worker:
        assert in_child(lambda: None) == 0
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(Exception, match=r"no table|cannot connect|no such"):
            worker.publish([{"n": 1}])
        assert worker.connection.lost is not None
