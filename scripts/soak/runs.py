"""One fault script against one backend: a process publishes through a proxy, then all of it is delivered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rambla_py.outbox.sqlite.journal import SqliteJournal
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.processes import deadline
from soak.faults import SCRIPTS
from soak.targets import Target

__all__ = ["Process", "Run", "SoakError", "check_accounts", "resident", "run_fault", "run_of"]

_WAIT_S = 60.0


class SoakError(Exception):
    """Something was lost, or does not add up, or a fault was never seen."""


class Run(NamedTuple):
    """What came of one fault script: how often it hit, and how many messages were promised.

    Of these, ``again`` came more than once, and ``lost`` never. ``grown`` is the growth of the publisher's
    memory, as a share; None if it was started again.
    """

    hits: int
    promised: int
    again: int
    lost: int
    grown: float | None


class Process:
    """The publishing process, which is ended and started again."""

    def __init__(self, folder: Path, config: str) -> None:
        self._folder, self._config = folder, config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it has published something."""
        before = len(self.promised)
        self._process = self._run("publish")
        if not any(len(self.promised) > before for _ in deadline(_WAIT_S, poll_s=0.01)):
            raise SoakError("the publisher does not publish")

    @property
    def promised(self) -> list[str]:
        """The messages for which ``publish`` has returned."""
        file = self._folder / "promised"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def resident(self) -> int | None:
        """Its memory, in bytes; None if it does not run."""
        return None if self._process is None else resident(self._process.pid)

    def drain(self) -> None:
        if self._run("drain").wait(400):
            raise SoakError("what was left could not be delivered")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _run(self, mode: str) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("publisher.py")
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(program), str(self._folder), self._config, mode], stdout=log, stderr=log
            )

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is not None:
                raise SoakError(
                    f"the publisher ended by itself: {(self._folder / 'log').read_text()[-2000:]}"
                )
            process.send_signal(number)
            process.wait(60)


def run_fault(folder: Path, target: Target, script: str, seconds: float) -> Run:
    """Repeat a fault for some seconds, and at least until it was seen; then deliver what is left.

    Raises ``SoakError`` if the accounts do not add up. What is lost is for the caller to judge.
    """
    folder.mkdir()
    with FaultProxy(target.server.host, target.server.port) as proxy:
        process = Process(folder, json.dumps(target.config(folder, *proxy.address)))
        process.start()
        end, hits = time.monotonic() + seconds, 0
        before, warm = None, end - seconds * 2 / 3
        while time.monotonic() < end or not hits:
            hits += SCRIPTS[script](proxy, target, process)
            if before is None and time.monotonic() > warm:
                before = process.resident
            if time.monotonic() > end + _WAIT_S:
                raise SoakError(f"{target.name}, {script}: the fault was never seen")
        grown = (process.resident or 0) / before - 1 if before else 0.0
        process.stop()
        process.drain()
    restarted = script.startswith("publisher")  # a new process has its own memory
    return run_of(folder, process, target.found(), hits, None if restarted else grown)


def run_of(folder: Path, process: Process, found: list[str], hits: int, grown: float | None) -> Run:
    """Return what came of it: ``found`` are the messages that the backend has. Raises ``SoakError``."""
    promised = process.promised
    check_accounts(folder)
    again, lost = len(found) - len(set(found)), len(set(promised) - set(found))
    return Run(hits, len(promised), again, lost, grown)


def check_accounts(folder: Path) -> None:
    """Fail unless the accounts add up, and nothing is left."""
    journal = SqliteJournal(folder / "outbox.db", reserve_bytes=0)
    journal.open(delivers=False)
    accounts, sequence = journal.ledger()
    journal.close()
    wrong = [name for name, account in accounts.items() if account.difference or account.pending]
    if wrong or sum(account.accepted for account in accounts.values()) != sequence:
        raise SoakError(f"the accounts do not add up: {accounts}")


def resident(process: int | str = "self") -> int:
    """Return the memory of a process, in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
