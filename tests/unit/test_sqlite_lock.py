"""Turns to write to a SQLite file."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from interruptions import Point, every_point, interrupted_at
from waiting import wait_until

from rambla_py._internal import sqlite_lock as _lock
from rambla_py._internal.sqlite_lock import WriteLock, begin_writing

Connect = Callable[..., sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Connect to one file, with a busy timeout in seconds."""
    with ExitStack() as opened:

        def connected(timeout_s: float = 20.0) -> sqlite3.Connection:
            connection = sqlite3.connect(
                tmp_path / "a.db", timeout=timeout_s, isolation_level=None, check_same_thread=False
            )
            return opened.enter_context(closing(connection))

        connected().execute("CREATE TABLE done (name)")
        os.chmod(tmp_path / "a.db", 0o600)
        yield connected


@pytest.fixture
def turn(tmp_path: Path) -> Path:
    """The file for which writers queue."""
    return tmp_path / "a.db-turn"


def write(connection: sqlite3.Connection, name: str) -> None:
    begin_writing(connection)
    connection.execute("INSERT INTO done VALUES (?)", (name,))
    connection.execute("COMMIT")


def written(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM done ORDER BY rowid")]


def is_held(turn: Path) -> bool:
    """Return whether a writer is at the head of the queue."""
    if not turn.exists():
        return False
    with turn.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False


def queued(connection: sqlite3.Connection, name: str) -> threading.Thread:
    thread = threading.Thread(target=write, args=(connection, name))
    thread.start()
    return thread


def test_one_writer_needs_no_queue(connect: Connect, turn: Path) -> None:
    """Nothing is left beside the file of a program that shares it with no other."""
    first, second = connect(), connect()
    write(first, "a")
    write(second, "b")
    assert written(first) == ["a", "b"]
    assert not turn.exists()


def test_a_writer_waits_for_the_one_that_writes(connect: Connect, turn: Path) -> None:
    """It writes after the other's commit; the queue's file has the mode of the database."""
    first = connect()
    begin_writing(first)
    waiting = queued(connect(), "b")
    while not is_held(turn):
        assert waiting.is_alive()
    first.execute("INSERT INTO done VALUES ('a')")
    first.execute("COMMIT")
    waiting.join(20)
    assert written(first) == ["a", "b"]
    assert turn.stat().st_mode & 0o777 == 0o600
    assert not is_held(turn)


def test_a_writer_that_comes_back_does_not_overtake(connect: Connect, turn: Path) -> None:
    """Whoever writes again at once queues behind those that wait."""
    first = connect()
    begin_writing(first)
    waiting = queued(connect(), "waiting")
    while not is_held(turn):
        assert waiting.is_alive()
    first.execute("COMMIT")
    write(first, "again")
    waiting.join(20)
    assert written(first) == ["waiting", "again"]


def test_a_stopped_head_of_the_queue_does_not_stop_others(connect: Connect, turn: Path) -> None:
    """A process that was paused while it held the turn costs time, not the transaction."""
    turn.touch()
    with turn.open() as paused:
        fcntl.flock(paused, fcntl.LOCK_EX)
        write(connection := connect(0.3), "a")
        assert written(connection) == ["a"]
        fcntl.flock(paused, fcntl.LOCK_UN)
    while is_held(turn):  # the thread that waited lets go of what it gets too late
        pass
    write(connection, "b")
    assert written(connection) == ["a", "b"]


class _InterruptedError(Exception):
    """What the signal handler raises."""


def test_an_interrupted_writer_leaves_the_queue(connect: Connect, turn: Path) -> None:
    """A turn that comes after Ctrl-C is released at once, and others write."""

    def interrupt(number: int, frame: object) -> None:
        raise _InterruptedError

    connection = connect()
    turn.touch()
    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        with turn.open() as paused:
            fcntl.flock(paused, fcntl.LOCK_EX)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(_InterruptedError):
                begin_writing(connection)
            fcntl.flock(paused, fcntl.LOCK_UN)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    while is_held(turn):  # a thread that kept it would run into the time limit of the test
        pass
    write(connection, "a")
    assert written(connection) == ["a"]


# One of the points is in the finalizer, where exceptions are reported and end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("queued_behind_another", [False, True])
def test_an_exception_at_every_point_leaves_the_queue(
    connect: Connect, turn: Path, queued_behind_another: bool
) -> None:
    """Wherever it comes while a writer takes its turn and gives it up: the turn is free afterwards."""
    connection = connect()
    turn.touch()

    def interrupt() -> None:
        raise _InterruptedError

    def run(number: int) -> Point:
        with turn.open() as other:
            if queued_behind_another:
                fcntl.flock(other, fcntl.LOCK_EX)
                threading.Timer(0.02, fcntl.flock, (other.fileno(), fcntl.LOCK_UN)).start()
            with suppress(_InterruptedError), interrupted_at(number, (_lock.__file__,), interrupt) as point:
                begin_writing(connection)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("PRAGMA busy_timeout = 20000")
            wait_until(lambda: not is_held(turn))
        return point

    assert every_point(run) > 10


def test_an_exception_at_every_point_leaves_the_busy_timeout(connect: Connect) -> None:
    """Later statements on the connection wait as long as before."""
    connection = connect()

    def interrupt() -> None:
        raise _InterruptedError

    def run(number: int) -> Point:
        files = (_lock.__file__,)
        with suppress(_InterruptedError), interrupted_at(number, files, interrupt, entries=True) as point:
            begin_writing(connection)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (20_000,)
        return point

    assert every_point(run) > 10


_FORKED = """
import os, signal, sqlite3, sys, threading
from pathlib import Path
from test_sqlite_lock import begin_writing, is_held
path = Path(sys.argv[1])
first, second = [sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False) for _ in "ab"]
begin_writing(first)
threading.Thread(target=begin_writing, args=(second,), daemon=True).start()
while not is_held(path.with_name(path.name + "-turn")):
    pass
child = os.fork()
if child:
    print(child, flush=True)
signal.pause()
"""


def test_a_forked_child_does_not_keep_the_turn_of_its_killed_parent(
    connect: Connect, turn: Path, tmp_path: Path
) -> None:
    """The parent was forked while a thread of it had the turn; others need not wait until the child ends."""
    program = [sys.executable, "-c", _FORKED, str(tmp_path / "a.db")]
    folder = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": folder}
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        try:
            wait_until(lambda: not is_held(turn))
        finally:
            os.kill(child, signal.SIGKILL)
    write(connection := connect(), "a")
    assert written(connection) == ["a"]


def test_a_file_that_stays_locked_is_busy(connect: Connect) -> None:
    """After the busy timeout the error is SQLite's own, and the timeout is what it was."""
    first, second = connect(), connect(0.2)
    begin_writing(first)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        begin_writing(second)
    assert second.execute("PRAGMA busy_timeout").fetchone() == (200,)


def test_a_connection_that_only_writes_sets_nothing(connect: Connect) -> None:
    """The timeout is switched off once, and on again for the next reader, which SQLite lets wait."""
    connection = connect(0.2)
    lock = WriteLock(connection)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for _ in range(3):
        lock.begin_writing()
        connection.execute("COMMIT")
    assert statements == ["PRAGMA busy_timeout = 0", *["BEGIN IMMEDIATE", "COMMIT"] * 3]
    lock.before_reading()
    lock.before_reading()
    assert statements[7:] == ["PRAGMA busy_timeout = 200"]


def test_without_patience_the_file_is_busy_at_once(connect: Connect, turn: Path) -> None:
    """A busy timeout of zero queues for nothing."""
    first, second = connect(), connect(0)
    begin_writing(first)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        begin_writing(second)
    assert not turn.exists()


def test_memory_needs_no_file() -> None:
    """A database in memory has one connection."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        begin_writing(connection)
        assert connection.in_transaction


def test_many_writers_lose_nothing(connect: Connect) -> None:
    """Eight threads write fifty rows each."""
    threads = [
        threading.Thread(
            target=lambda name=name: [write(mine, name) for mine in [connect()] for _ in range(50)]
        )
        for name in "abcdefgh"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = written(connect())
    assert {name: rows.count(name) for name in "abcdefgh"} == dict.fromkeys("abcdefgh", 50)
