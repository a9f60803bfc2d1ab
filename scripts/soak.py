"""Break the outbox for a long time, and count: nothing promised may be lost.

The minutes are divided among kills, a comparison with a model, a journal with many rows, and fault scripts
against four backends. Every part prints its counts; the script fails if one of them lost a message.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from soak_faults import SCRIPTS
from soak_targets import TARGETS, Target

from rambla_py import Rambla
from rambla_py.outbox.sqlite.journal import SqliteJournal
from rambla_py.testing.faults import FaultProxy

ROOT = Path(__file__).resolve().parent.parent
FULL_MINUTES = 40.0
KILLS, STEPS, ROWS = 300, 10_000, 1_000_000
_FAULTS_SHARE = 0.75
_MOST_GROWTH, _LONG_S = 0.05, 60.0
_MOST_FOR_ROWS = 20 << 20

console = Console()


class Process:
    """The publishing process, which is ended and started again."""

    def __init__(self, folder: Path, config: str) -> None:
        self._folder, self._config = folder, config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = self._run("publish")

    @property
    def resident(self) -> int | None:
        """Its memory, in bytes; None if it does not run."""
        return None if self._process is None else _resident(self._process.pid)

    def drain(self) -> None:
        if self._run("drain").wait(400):
            raise SystemExit("what was left could not be delivered")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _run(self, mode: str) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("soak_publisher.py")
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(program), str(self._folder), self._config, mode], stdout=log, stderr=log
            )

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is not None:
                raise SystemExit(
                    f"the publisher ended by itself: {(self._folder / 'log').read_text()[-2000:]}"
                )
            process.send_signal(number)
            process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="how long it may take, about")
    parser.add_argument("--targets", default=",".join(TARGETS), help="the backends of the fault scripts")
    parser.add_argument("--scripts", default=",".join(SCRIPTS), help="the fault scripts")
    parser.add_argument("--only", choices=["kills", "model", "rows", "faults"], help="one part of it")
    given = parser.parse_args()
    scale, began = min(1.0, given.minutes / FULL_MINUTES), time.monotonic()
    if given.only in (None, "kills"):
        _pytest("tests/outbox/test_killed.py", "random_moments", RAMBLA_KILLS=max(4, round(KILLS * scale)))
    if given.only in (None, "model"):
        _pytest("tests/outbox/test_outbox_model.py", "", RAMBLA_STEPS=max(100, round(STEPS * scale)))
    if given.only in (None, "rows"):
        many_rows(max(10_000, round(ROWS * scale)))
    if given.only in (None, "faults"):
        targets, scripts = given.targets.split(","), given.scripts.split(",")
        seconds = given.minutes * 60 * _FAULTS_SHARE / (len(targets) * len(scripts))
        faults(targets, scripts, seconds)
    console.print(f"the soak took {(time.monotonic() - began) / 60:.1f} minutes, and lost nothing")


def _pytest(file: str, name: str, **values: int) -> None:
    """Run tests with more of everything, and print what they print."""
    console.rule(f"{file} {values}")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--timeout", "0", file, "-k", name]
    environment = {**os.environ, **{key: str(value) for key, value in values.items()}}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise SystemExit(f"{file} failed")


def many_rows(number: int) -> None:
    """Keep many rows while nothing is delivered: memory stays as it is; then deliver them all."""
    console.rule(f"{number:,} rows")
    with tempfile.TemporaryDirectory(prefix="rambla-soak-") as folder:
        table = _null_table(Path(folder), deliver=False)
        with Rambla(table) as app:
            app.publish_many("orders", [{"id": at} for at in range(1_000)])
            before, began = _resident(), time.monotonic()
            for at in range(0, number - 1_000, 500):
                app.publish_many("orders", [{"id": at + part} for part in range(500)])
            grown, took_s = _resident() - before, time.monotonic() - began
        console.print(f"accepted {number / took_s:,.0f} rows/s; memory grew by {grown / 2**20:.1f} MiB")
        if grown > _MOST_FOR_ROWS:
            raise SystemExit("rows that wait cost memory")
        began = time.monotonic()
        with Rambla(_null_table(Path(folder), deliver=True)) as app:
            while _pending(Path(folder)):
                app.flush(timeout_s=5)
        console.print(f"delivered {number / (time.monotonic() - began):,.0f} rows/s")
        _check_accounts(Path(folder))


def faults(names: list[str], scripts: list[str], seconds: float) -> None:
    """Run each fault script against each backend for some seconds, then without faults until all is there."""
    console.rule(f"{len(scripts)} fault scripts x {len(names)} targets x {seconds:.0f} s")
    table = Table("target", "fault", "hit", "promised", "duplicates", "lost", "memory")
    lost = 0
    for name in names:
        with tempfile.TemporaryDirectory(prefix="rambla-soak-") as folder:
            target = TARGETS[name](Path(folder))
            try:
                target.server.start()
                for script in scripts:
                    row, missing = _fault(Path(folder) / script.replace(" ", "-"), target, script, seconds)
                    table.add_row(name, script, *row)
                    console.print(f"{name}, {script}: {', '.join(row)}")
                    lost += missing
            finally:
                target.server.close()
    console.print(table)
    if lost:
        raise SystemExit(f"{lost} messages were lost")


def _fault(folder: Path, target: Target, script: str, seconds: float) -> tuple[list[str], int]:
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
            if time.monotonic() > end + 60:
                raise SystemExit(f"{target.name}, {script}: the fault was never seen")
        grown = (process.resident or 0) / before - 1 if before else 0.0
        process.stop()
        process.drain()
    promised = (folder / "promised").read_text().splitlines()
    found = target.found()
    missing = set(promised) - set(found)
    _check_accounts(folder)
    if grown > _MOST_GROWTH and seconds >= _LONG_S and not script.startswith("publisher"):
        raise SystemExit(f"{target.name}, {script}: memory grew by {grown:.1%}")
    again = len(found) - len(set(found))
    memory = "" if script.startswith("publisher") else f"{grown:+.1%}"  # a new process has its own
    row = [f"{hits}", f"{len(promised):,}", f"{again:,}", f"{len(missing)}", memory]
    return row, len(missing)


def _null_table(folder: Path, *, deliver: bool) -> dict[str, object]:
    return {
        "rambla": {"outbox": {"url": f"sqlite:///{folder / 'outbox.db'}", "deliver": deliver}},
        "null": {
            "connections": {"here": {}},
            "channels": {"orders": {"connection": "here", "durable": True}},
        },
    }


def _pending(folder: Path) -> int:
    journal = SqliteJournal(folder / "outbox.db", reserve_bytes=0)
    journal.open(delivers=False)
    try:
        return sum(account.pending for account in journal.accounts().values())
    finally:
        journal.close()


def _check_accounts(folder: Path) -> None:
    """Fail unless the accounts add up, and nothing is left."""
    journal = SqliteJournal(folder / "outbox.db", reserve_bytes=0)
    journal.open(delivers=False)
    accounts, sequence = journal.ledger()
    journal.close()
    wrong = [name for name, account in accounts.items() if account.difference or account.pending]
    if wrong or sum(account.accepted for account in accounts.values()) != sequence:
        raise SystemExit(f"the accounts do not add up: {accounts}")


def _resident(process: int | str = "self") -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
