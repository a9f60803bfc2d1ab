"""This module sets up every test run: hypothesis profiles, and the end of processes left behind."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings

# Few examples on a developer's machine, so that tests/unit takes a second or two; the usual hundred in CI.
settings.register_profile("default", max_examples=15, deadline=timedelta(milliseconds=500))
settings.register_profile("ci", deadline=timedelta(seconds=5), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

_MARK = "RAMBLA_TEST_RUN"
_leaked = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Mark the environment: whatever this run starts inherits it, however far it moves away."""
    os.environ[_MARK] = uuid.uuid4().hex


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what tests started and left behind; the run fails when there is any."""
    leaked = [_ended(pid) for pid in list(_descendants(os.environ[_MARK]))]
    session.config.stash[_leaked] = leaked
    if leaked and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_leaked, []):
        terminalreporter.write_line(f"left behind by a test, ended now: {line}", red=True)


def _descendants(run: str) -> Iterator[int]:
    """Yield the living processes that are our children or have our mark; none where there is no /proc."""
    mark = f"{_MARK}={run}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            ours = int(parent) == os.getpid() or mark in (folder / "environ").read_bytes().split(b"\0")
            if ours and state != "Z" and int(folder.name) != os.getpid():
                yield int(folder.name)


def _ended(pid: int) -> str:
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        os.kill(pid, signal.SIGKILL)
        return f"{pid} {command.strip()[:150]}"
    return f"{pid} (gone meanwhile)"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that handlers wait for; it is set at the end, so that none of them stays."""
    event = threading.Event()
    yield event
    event.set()
