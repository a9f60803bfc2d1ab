"""``rambla outbox``, ``audit``, ``explain`` and ``relay``: the real program on real files."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import forked_program
import pytest
from dead_files import accept, kill, row
from typer.testing import CliRunner
from waiting import wait_until

from rambla_py.outbox.sqlite.journal import SqliteJournal

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "rambla_py.cli"]
CONFIG = """
[rambla.outbox]
deliver = false
max_bytes = 1073741824
[file.connections.one]
path = "out"
[file.channels.orders]
connection = "one"
durable = true
[file.channels.logs]
connection = "one"
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rambla.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def outbox(folder: Path) -> Path:
    return folder / "rambla-outbox.db"


@pytest.fixture
def run(folder: Path) -> Run:
    def run_it(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = forked_program.PROGRAM.run(folder, arguments, os.environ)
        assert "Traceback" not in done.stderr
        return done

    return run_it


@pytest.fixture
def journal(outbox: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(outbox)
    made.open(delivers=False)
    yield made
    made.close()


def data(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


# -- outbox ---------------------------------------------------------------------------------------------


def test_init_makes_the_file_once(outbox: Path, run: Run) -> None:
    """The file is private; a second call changes nothing; ``--sql`` prints the same tables."""
    made = run("outbox", "init")
    assert made.returncode == 0
    assert made.stdout == f"outbox sqlite:///{outbox}: made, with tables of version 1\n"
    assert outbox.stat().st_mode & 0o777 == 0o600
    assert data(run("outbox", "init", "--json")) == {
        "url": f"sqlite:///{outbox}",
        "made": False,
        "version": 1,
    }
    with sqlite3.connect(":memory:") as copy, sqlite3.connect(outbox) as there:
        copy.executescript(run("outbox", "init", "--sql").stdout)
        query = "SELECT name FROM sqlite_schema ORDER BY name"
        assert copy.execute(query).fetchall() == there.execute(query).fetchall()
    copy.close()
    there.close()


def test_status_in_one_line(outbox: Path, run: Run, journal: SqliteJournal) -> None:
    """What is kept, the oldest, dead letters, processes, sizes; JSON has the figures."""
    kill(outbox, [row("d")])
    accept(journal, [row("1", accepted=1_000.0), row("2")])
    owner = SqliteJournal(outbox)
    owner.open(delivers=True)
    shown = run("outbox", "status").stdout
    found = data(run("outbox", "status", "--json"))
    owner.close()
    assert shown.startswith(f"outbox sqlite:///{outbox}: 2 kept, oldest ")
    assert " days; 1 dead; 1 owner alive; log " in shown
    assert shown.endswith(" of 1 GiB\n")
    assert (found["rows"], found["dead"], found["oldest"], found["owners_alive"]) == (2, 1, 1_000.0, 1)
    assert found["max_bytes"] == 1 << 30


def test_status_counts_adopted_owners(outbox: Path, run: Run) -> None:
    """Those of processes that have ended, and whose messages a living one delivers."""
    dead, heir = SqliteJournal(outbox), SqliteJournal(outbox)
    dead.open(delivers=True)
    accept(dead, [row("1")])
    number = dead.own
    dead._owners.unlock(number)  # as the end of its process does
    heir.open(delivers=True)
    assert number in [share.number for share in heir.claim()]
    shown = run("outbox", "status").stdout
    assert " 0 dead; 1 owner alive, 1 adopted; log " in shown
    heir.close()
    dead.close()


def test_a_newer_outbox_and_another_file_are_refused(outbox: Path, run: Run) -> None:
    """Exit code 1 and one line: a newer schema, a text file, the database of another application."""
    with sqlite3.connect(outbox) as connection:
        connection.execute("CREATE TABLE rambla_schema (version INTEGER)")
        connection.execute("INSERT INTO rambla_schema VALUES (99)")
    connection.close()
    for command in (["outbox", "status"], ["audit"], ["dead", "list"], ["outbox", "init"]):
        done = run(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "its tables have version 99, and this release knows 1: install a newer one" in done.stderr
    outbox.write_text("orders of today\n")
    damaged = run("outbox", "status")
    assert damaged.returncode == 1
    assert f"rambla outbox rescue {outbox} NEW" in damaged.stderr
    outbox.unlink()
    missing = run("audit")
    assert missing.returncode == 1
    assert "there is no such file; it is made by the first durable publish" in missing.stderr


def test_rescue(outbox: Path, run: Run, folder: Path) -> None:
    """A sound file is copied whole with exit code 0; from a damaged one what can be read, with 1."""
    kill(outbox, [row(f"m{at}", payload="x" * 500) for at in range(200)])
    whole = run("outbox", "rescue", str(outbox), "copy.db")
    assert whole.returncode == 0
    assert (
        whole.stdout
        == "copy.db: 0 messages and 200 dead letters copied; lost: 0 messages and 0 dead letters\n"
    )
    content = bytearray(outbox.read_bytes())
    place = content.rindex(b"x" * 500) & ~0xFFF
    content[place : place + 4096] = b"\xa5" * 4096
    outbox.write_bytes(content)
    done = run("outbox", "rescue", str(outbox), "new.db", "--json")
    assert done.returncode == 1
    found = data(done)
    assert 0 < found["dead_lost"] <= 200 - found["dead"]
    assert data(run("dead", "list", "--json", "--url", "sqlite:///new.db"))["total"] == found["dead"] > 100
    again = run("outbox", "rescue", str(outbox), "new.db")
    assert (again.returncode, "this file exists" in again.stderr) == (1, True)


# -- audit ----------------------------------------------------------------------------------------------


def test_audit_shows_every_target(outbox: Path, run: Run, journal: SqliteJournal) -> None:
    """Exit code 0 when it adds up; dead letters and replays are beside the table."""
    kill(outbox, [row("d", "file.logs")])
    accept(journal, [row(f"m{at}", "file.orders") for at in range(1_200)])
    done = run("audit")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["target", "accepted", "ok", "fatal", "expired", "unknown", "pending", "adds", "up"]
    assert lines[2:] == [
        ["file.logs", "1", "0", "1", "0", "0", "0", "yes"],
        ["file.orders", "1,200", "0", "0", "0", "0", "1,200", "yes"],
        ["file.logs:", "1", "dead", "now"],
    ]
    found = data(run("audit", "--json"))
    assert (found["balanced"], found["stored"], found["differences"]) == (True, 1_201, [])
    assert found["targets"]["file.orders"]["pending"] == 1_200


def test_audit_names_a_difference(outbox: Path, run: Run, journal: SqliteJournal) -> None:
    """A row that is gone without an outcome: exit code 1, the target and the difference."""
    accept(journal, [row("1", "file.orders"), row("2", "file.orders")])
    with sqlite3.connect(outbox) as connection:
        connection.execute("DELETE FROM rambla_message WHERE id = '1'")
    connection.close()
    done = run("audit")
    assert done.returncode == 1
    assert done.stdout.splitlines()[2].split() == ["file.orders", "2", "0", "0", "0", "0", "1", "no"]
    assert done.stderr == "rambla: file.orders: 2 accepted, 0 ended, 1 pending: 1 is missing\n"
    assert data(run("audit", "--json"))["balanced"] is False


# -- explain --------------------------------------------------------------------------------------------


def test_explain_in_three_sentences(outbox: Path, run: Run) -> None:
    """Nothing is started for it; what is asserted and kept gives exit code 0."""
    done = run("explain", "orders", "--assert", "at-least-once", "--assert", "survives-restart")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "file.orders"
    assert lines[1].startswith("At least once: ")
    assert f"in the outbox sqlite:///{outbox} before publish returns" in lines[1]
    assert lines[2].startswith("Messages with the same key ")
    assert lines[3].startswith("publish waits up to 5 s for room and up to 10 s for the commit; ")
    assert not outbox.exists()


def test_explain_asserts(run: Run) -> None:
    """A promise that is not kept gives exit code 1 with the reason; an unknown one 2."""
    done = run("explain", "file.logs", "--assert", "survives-restart", "--json")
    assert done.returncode == 1
    reason = "durable = false: messages wait in memory, and are lost with the process"
    assert done.stderr == f"rambla: file.logs is not survives-restart: {reason}\n"
    found = data(done)
    assert (found["ok"], found["targets"][0]["broken"]["survives-restart"]) == (False, reason)
    assert run("explain", "orders", "--assert", "at-most-once").returncode == 1
    wrong = run("explain", "orders", "--assert", "exactly-once")
    assert wrong.returncode == 2
    assert "'exactly-once' is none of at-least-once, at-most-once" in " ".join(wrong.stderr.split())
    assert run("explain", "order").returncode == 2


# -- relay ----------------------------------------------------------------------------------------------


@pytest.fixture
def relay(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, "relay", "--from", "outbox", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_relay_delivers_what_others_wrote(
    folder: Path, outbox: Path, journal: SqliteJournal, relay: Callable[..., subprocess.Popen[str]], run: Run
) -> None:
    """Before and after its start, although ``deliver`` is false; SIGTERM ends it with exit code 0."""
    accept(journal, [row(f"a{at}", "file.orders", at) for at in range(3)])
    process = relay("--json")
    out = folder / "out"
    wait_until(lambda: out.exists() and len(out.read_text().splitlines()) == 3)
    accept(journal, [row(f"b{at}", "file.orders", at) for at in range(3, 5)])
    wait_until(lambda: len(out.read_text().splitlines()) == 5)
    wait_until(lambda: journal.totals().rows == 0)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["targets"]["file.orders"]["ok"] == 5
    assert "stopped; 0 messages of this relay kept in the outbox" in stderr
    assert run("audit").returncode == 0


SLOW = """
import pathlib
import time
import rambla_py

class Slow(rambla_py.Handler):
    guarantee = "at least once"

    def handle_publish(self, message, options, state):
        path = pathlib.Path("begun")
        with path.open("a") as file:
            file.write(f"{message.payload}\\n")
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        with open("done", "a") as file:
            file.write(f"{message.payload}\\n")
"""


def test_a_relay_that_is_stopped_finishes_what_is_in_flight(
    folder: Path, journal: SqliteJournal, relay: Callable[..., subprocess.Popen[str]], run: Run
) -> None:
    """What has begun is finished, what waits stays in the outbox, and the next relay delivers it."""
    (folder / "slow.py").write_text(SLOW)
    channel = (
        '[slow]\nhandler = "slow:Slow"\n[slow.channels.orders]\ndurable = true\n[slow.connections.default]\n'
    )
    (folder / "rambla.toml").write_text(channel)
    accept(journal, [row(f"m{at}", "slow.orders", at) for at in range(500)])
    process = relay()
    wait_until((folder / "begun").exists)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any(line.startswith("stopping: takes no more") for line in lines)
    (folder / "go").touch()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    done = (folder / "done").read_text().split()
    assert done == (folder / "begun").read_text().split()
    assert 1 <= len(done) < 500
    assert journal.totals().rows == 500 - len(done)
    assert f"stopped; {500 - len(done):,} messages of this relay kept in the outbox" in stderr
    second = relay()
    wait_until(lambda: journal.totals().rows == 0)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert sorted(map(int, (folder / "done").read_text().split())) == list(range(500))


def test_a_relay_needs_a_durable_channel(folder: Path, relay: Callable[..., subprocess.Popen[str]]) -> None:
    """Without one there is nothing to relay: exit code 1."""
    (folder / "rambla.toml").write_text("[null.connections.default]\n[null.channels.orders]\n")
    process = relay()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the configuration has none: set durable = true on a channel" in stderr


# -- documentation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["outbox", "dead"])
def test_every_verb_and_option_is_documented(group: str) -> None:
    """``docs/cli.md`` names each verb, with each option that its help shows."""
    page = (ROOT / "docs" / "cli.md").read_text()
    section = page.partition(f"\n## `rambla {group}")[2].partition("\n## ")[0] + page.partition("\n## ")[0]
    commands = importlib.import_module(f"rambla_py.cli.{group}").app
    help_of = partial(CliRunner().invoke, commands)
    verbs = re.findall(r"^  (\w+) {2,}", help_of(["--help"]).stdout.partition("Commands:")[2], re.MULTILINE)
    assert len(verbs) >= 3
    for verb in verbs:
        assert f"`rambla {group} {verb}" in section
        shown = help_of([verb, "--help"]).stdout
        options = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", shown, re.MULTILINE)
        assert "--help" in options
        assert [one for one in options if f"`{one}" not in section] == []
