"""Break the outbox for a long time, and count: nothing promised may be lost.

The minutes are divided among kills, a comparison with a model, a journal with many rows, a cluster whose
leader is killed, and fault scripts against four backends. Every part prints its counts; the script fails if
one of them lost a message.
``--case steady`` publishes instead at a steady rate without an outbox, and watches the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rambla_py import Rambla
from rambla_py.outbox.sqlite.journal import SqliteJournal
from soak.cluster import kill_leaders
from soak.faults import SCRIPTS
from soak.runs import Run, SoakError, check_accounts, resident, run_fault
from soak.steady import steady
from soak.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent.parent
FULL_MINUTES = 40.0
KILLS, STEPS, ROWS = 300, 10_000, 1_000_000
RELAYS, HELD_S = 100, 60
LEADERS, LEADERS_S = 5, 60
_FAULTS_SHARE = 0.75
_MOST_GROWTH, _LONG_S = 0.05, 60.0
_MOST_FOR_ROWS = 20 << 20

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="how long it may take, about")
    parser.add_argument("--targets", default=",".join(TARGETS), help="the backends of the fault scripts")
    parser.add_argument("--scripts", default=",".join(SCRIPTS), help="the fault scripts")
    parts = ["kills", "open", "model", "rows", "cluster", "faults"]
    parser.add_argument("--only", choices=parts, help="one part of it")
    parser.add_argument("--case", choices=["outbox", "steady"], default="outbox", help="what to soak")
    given = parser.parse_args()
    if given.case == "steady":
        steady(console, given.minutes)
        return
    scale, began = min(1.0, given.minutes / FULL_MINUTES), time.monotonic()
    if given.only in (None, "kills"):
        _pytest("tests/outbox/test_killed.py", "random_moments", RAMBLA_KILLS=max(4, round(KILLS * scale)))
        _pytest("tests/live/test_outbox_relays_killed.py", "", RAMBLA_KILLS=max(4, round(RELAYS * scale)))
    if given.only in (None, "open"):
        _pytest("tests/live/test_outbox_open_transaction.py", "", RAMBLA_HELD_S=max(5, round(HELD_S * scale)))
    if given.only in (None, "model"):
        _pytest("tests/outbox/test_outbox_model.py", "", RAMBLA_STEPS=max(100, round(STEPS * scale)))
    if given.only in (None, "rows"):
        many_rows(max(10_000, round(ROWS * scale)))
    if given.only in (None, "cluster"):
        leaders(max(2, round(LEADERS * scale)), max(10, round(LEADERS_S * scale)))
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
            before, began = resident(), time.monotonic()
            for at in range(0, number - 1_000, 500):
                app.publish_many("orders", [{"id": at + part} for part in range(500)])
            grown, took_s = resident() - before, time.monotonic() - began
        console.print(f"accepted {number / took_s:,.0f} rows/s; memory grew by {grown / 2**20:.1f} MiB")
        if grown > _MOST_FOR_ROWS:
            raise SystemExit("rows that wait cost memory")
        began = time.monotonic()
        with Rambla(_null_table(Path(folder), deliver=True)) as app:
            while _pending(Path(folder)):
                app.flush(timeout_s=5)
        console.print(f"delivered {number / (time.monotonic() - began):,.0f} rows/s")
        check_accounts(Path(folder))


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
                    run = run_fault(Path(folder) / script.replace(" ", "-"), target, script, seconds)
                    row = _row(run)
                    table.add_row(name, script, *row)
                    console.print(f"{name}, {script}: {', '.join(row)}")
                    lost += run.lost
                    if (run.grown or 0.0) > _MOST_GROWTH and seconds >= _LONG_S:
                        raise SystemExit(f"{name}, {script}: memory grew by {run.grown:.1%}")
            finally:
                target.server.close()
    console.print(table)
    if lost:
        raise SystemExit(f"{lost} messages were lost")


def leaders(kills: int, seconds: int) -> None:
    """Kill the leader of a replicated queue, in a cluster of three nodes of RabbitMQ."""
    console.rule(f"three nodes of RabbitMQ, the leader killed {kills} times")
    with tempfile.TemporaryDirectory(prefix="rambla-soak-") as folder:
        run = kill_leaders(Path(folder) / "app", kills, seconds)
    console.print(", ".join(_row(run)))
    if run.lost:
        raise SystemExit(f"{run.lost} messages were lost")


def _row(run: Run) -> list[str]:
    memory = "" if run.grown is None else f"{run.grown:+.1%}"
    return [f"{run.hits}", f"{run.promised:,}", f"{run.again:,}", f"{run.lost}", memory]


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


if __name__ == "__main__":
    try:
        main()
    except SoakError as error:
        raise SystemExit(str(error)) from error
