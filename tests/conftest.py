"""What every test run sets up: hypothesis profiles, temporary files, and the end of processes left behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from memory_folder import use_memory

# Few examples on a developer's machine, so that tests/unit takes seconds; the usual hundred in CI.
# A busy machine is no reason to fail.
_CALM = {"suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=15, deadline=timedelta(milliseconds=500), **_CALM)
settings.register_profile("ci", deadline=timedelta(seconds=5), derandomize=True, print_blob=True, **_CALM)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

_MARK = "RAMBLA_TEST_RUN"
# A certificate whose key is gone. Tests trust the authorities of the run only; the system's hundred and fifty, which
# most TLS contexts read, take 40 ms each time.
_NO_AUTHORITY = Path(__file__).parent / "support" / "no_authority.pem"
_leaked = pytest.StashKey[list[str]]()
_memory = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the environment: whatever this run starts inherits it, however far it moves away."""
    os.environ[_MARK] = uuid.uuid4().hex
    os.environ["SSL_CERT_FILE"] = str(_NO_AUTHORITY)
    if (folder := use_memory()) is not None:
        config.stash[_memory] = folder
    # A run in the background of a shell ignores it, and so would all that tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    if (folder := config.stash.get(_memory, None)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect no garbage meanwhile: twelve thousand tests stay, and were searched for it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what tests started and left behind; the run fails when there is any."""
    config = session.config
    leaked = [*config.stash.get(_leaked, []), *map(_ended, _left_behind(os.environ[_MARK]))]
    config.stash[_leaked] = leaked
    output = getattr(config, "workeroutput", None)
    if output is not None:  # a process of pytest-xdist, which reports to the one that started it
        output["leaked"] = leaked
    elif leaked and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of pytest-xdist found left behind."""
    config = node.config
    config.stash[_leaked] = [
        *config.stash.get(_leaked, []),
        *getattr(node, "workeroutput", {}).get("leaked", []),
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_leaked, []):
        terminalreporter.write_line(f"left behind by a test, ended now: {line}", red=True)


def _left_behind(run: str) -> list[int]:
    """Return the processes that are still there a while after the last test: some are about to end."""
    until = time.monotonic() + 10
    while (found := list(_descendants(run))) and time.monotonic() < until:
        time.sleep(0.05)
    return found


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


@pytest.fixture(scope="module", autouse=True)
def _collections_are_short() -> None:
    """Exclude what lives by now from later collections, which tests of freed payloads and open sockets ask for.

    The thousands of tests themselves are objects: a full collection takes up to 0.4 s with them, 5 ms without.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that handlers wait for; it is set at the end, so that none of them stays."""
    event = threading.Event()
    yield event
    event.set()
