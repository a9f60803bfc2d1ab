"""Tests of trackers over the ends and the forks of processes: every event once, accounts of their own."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from analytics_cases import rows
from waiting import wait_until

from rambla_py.testing.ports import free_port

PROGRAMS = Path(__file__).parents[1] / "support" / "analytics_programs.py"
TIMEOUT_S = 100
PATIENT = {"RAMBLA__RAMBLA__EXIT_TIMEOUT_S": "60"}
"""On a busy machine, connecting alone may take the five seconds that an exit has."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def run(program: str, file: Path, *, patched: bool = False, code: int = 0) -> str:
    """Run a program to its end, and return what it wrote to stderr."""
    first = ["-m", "gevent.monkey"] if patched else []
    argv = [sys.executable, *first, str(PROGRAMS), program, f"sqlite:///{file}"]
    environ = {**os.environ, **PATIENT}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT_S, env=environ)
    assert done.returncode == code, done.stderr
    return done.stderr


def by_process(file: Path, table: str = "payment_events") -> list[int]:
    """Return how many events each process has, sorted."""
    found = [row["context"].partition('"process_id":')[2] for row in rows(file, table)]
    return sorted(collections.Counter(found).values())


@pytest.mark.parametrize(("program", "code"), [("leaves", 0), ("exits", 3)])
def test_a_program_that_ends_without_close_loses_nothing(program: str, code: int, file: Path) -> None:
    assert run(program, file, code=code) == ""
    assert len(rows(file, "payment_events")) == 25


def test_forked_children_track_for_themselves(file: Path) -> None:
    """The parent's events are not theirs, and no event is there twice."""
    assert run("forks", file) == ""
    assert by_process(file) == [5, 7, 7, 7]


def test_processes_of_multiprocessing_track_for_themselves(file: Path) -> None:
    """They end by ``os._exit``, and deliver before it."""
    assert run("multiprocesses", file) == ""
    assert by_process(file) == [5, 7, 7, 7]


def test_a_process_that_gevent_has_patched(file: Path) -> None:
    pytest.importorskip("gevent")
    run("greens", file, patched=True)
    assert by_process(file) == [25]


def test_a_forked_child_is_sampled_too(file: Path) -> None:
    """From its first event on, with the number of its own process."""
    pytest.importorskip("psutil")
    assert run("samples", file) == ""
    sampled = by_process(file, "system_performance_events")
    assert len(sampled) == 2
    assert min(sampled) >= 2


def test_preloaded_workers_of_gunicorn(file: Path) -> None:
    """The tracker is made before they are forked; each request is one event of the worker that answered."""
    pytest.importorskip("gunicorn")
    with gunicorn(file) as get:
        answered: collections.Counter[str] = collections.Counter()
        wait_until(lambda: answered.update([get()]) or len(answered) == 3)
        total = answered.total()
    found = by_process(file)
    assert (len(found), sum(found)) == (4, total + 1)
    assert found == sorted([1, *answered.values()])


@contextmanager
def gunicorn(file: Path) -> Iterator[Callable[[], str]]:
    """Run three preloaded workers; yield a function that asks one of them for its process id."""
    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", "--preload", "--workers=3", f"--bind=127.0.0.1:{port}"]
    argv += ["--log-level=warning", "--graceful-timeout=60", "analytics_programs:application"]
    environ = {**os.environ, **PATIENT, "EVENTS_URL": f"sqlite:///{file}", "PYTHONPATH": str(PROGRAMS.parent)}
    process = subprocess.Popen(argv, env=environ)

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            return str(answer.read().decode())

    def accepts() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20):
            return True
        return False

    try:
        wait_until(accepts)
        yield get
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
