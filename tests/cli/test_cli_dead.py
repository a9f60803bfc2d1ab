"""``rambla dead list|show|replay|drop|export``: the real program on real files."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import forked_program
import pytest
from dead_files import kill, row
from waiting import wait_until

from rambla_py.outbox.codec import dump_value
from rambla_py.outbox.sqlite.journal import SqliteJournal

PROGRAM = [sys.executable, "-m", "rambla_py.cli"]
CONFIG = """
[rambla.options]
retries = 0
[file.connections.one]
path = "out"
[file.channels.orders]
connection = "one"
durable = true
[file.channels.spare]
connection = "one"
durable = true
[file.channels.memory]
connection = "one"
[stub.connections.one]
[stub.channels.broken]
connection = "one"
durable = true
[stub.channels.broken.options]
error = "still broken"
retryable = false
[stub.channels.fails]
connection = "one"
[stub.channels.fails.options]
error = "broken as well"
retryable = false
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
    def run_it(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        done = forked_program.PROGRAM.run(folder, arguments, {**os.environ, "TZ": "UTC"}, text.encode())
        assert "Traceback" not in done.stderr
        return done

    return run_it


def data(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def delivered(folder: Path) -> list[Any]:
    path = folder / "out"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def total(outbox: Path) -> int:
    with closing(sqlite3.connect(outbox)) as connection:
        return int(connection.execute("SELECT count(*) FROM rambla_dead").fetchone()[0])


def orders(number: int, **fields: Any) -> list[Any]:
    return [row(f"m{at}", "file.orders", {"id": at, "lines": [{"n": at}]}, **fields) for at in range(number)]


def test_list_shows_groups(outbox: Path, run: Run) -> None:
    """One line for each channel and kind of error; the selection narrows it; JSON has every figure."""
    (letter,) = kill(
        outbox, [row("a", "file.spare")], died=1_764_000_000.0, text="NoRoomError: no\troom at 7"
    )
    kill(outbox, orders(2), died=1_764_000_060.0)
    shown = run("dead", "list").stdout.splitlines()
    assert shown[0].split() == ["group", "count", "channel", "error", "first", "last", "replayed"]
    assert shown[2].split()[1:3] == ["2", "file.orders"]
    assert shown[3].split() == [
        *(letter.fingerprint[:6], "1", "file.spare", "NoRoomError:", "no\\troom", "at", "7"),
        *("2025-11-24", "16:00:00", "2025-11-24", "16:00:00", "0"),
    ]
    found = data(run("dead", "list", "--json", "--group", letter.fingerprint[:6]))
    assert found["total"] == 1
    assert found["groups"] == [
        {
            "fingerprint": letter.fingerprint,
            "count": 1,
            "channel": "file.spare",
            "error": "NoRoomError: no\troom at 7",
            "first_at": 1_764_000_000.0,
            "last_at": 1_764_000_000.0,
            "replayed": 0,
        }
    ]
    for narrowed, total in [
        (["--channel", "orders"], 2),
        (["--since", "2025-11-24T16:00:30+00:00"], 2),
        (["--until", "2025-11-24T16:00:30"], 1),
        (["--since", "1h"], 0),
        (["--error", "no\troom AT"], 1),
        (["m0", "a"], 2),
    ]:
        assert data(run("dead", "list", "--json", *narrowed))["total"] == total, narrowed
    nothing = run("dead", "list", "--since", "1h")
    assert (nothing.stdout, nothing.stderr) == ("", "no dead letters match\n")
    each = run("dead", "list", "--letters").stdout.splitlines()
    assert [line.split()[0] for line in each[2:]] == ["a", "m0", "m1"]


def test_show_has_everything_about_a_letter(outbox: Path, run: Run) -> None:
    """Payload, options, headers and every attempt; control characters are escaped on the terminal."""
    given = dump_value({"headers": {"tenant": "blue"}, "expires_s": None})
    kill(outbox, [row("m0", "file.orders", {"text": "\x1b[31mred"}, key="k", options=given)])
    shown = run("dead", "show", "m0").stdout
    assert "\x1b" not in shown
    for part in [
        "m0",
        "file.orders",
        "AmqpHandler",
        '{"tenant":"blue"}',
        '{"expires_s":null}',
        "u001b[31mred",
    ]:
        assert part in shown
    found = data(run("dead", "show", "m0", "--json"))
    assert found["payload"] == {"text": "\x1b[31mred"}
    assert (found["target"], found["key"], found["attempts"]) == ("file.orders", "k", 1)
    assert found["headers"] == {"tenant": "blue"}
    assert found["options"] == {"expires_s": None}
    assert found["history"] == [{"at": 2_000.0, "error": "RejectedError: no room for 'x'"}]
    assert (found["error"], found["errors"]) == ("RejectedError: no room for 'x'", ["RejectedError"])


def test_show_of_what_cannot_be_read(outbox: Path, run: Run) -> None:
    """A damaged payload is shown as bytes, with the reason."""
    damaged = row("m0", "file.orders")
    damaged.payload = b"\xff\x00damaged"
    kill(outbox, [damaged])
    assert "its checksum is wrong" in run("dead", "show", "m0").stdout
    found = data(run("dead", "show", "m0", "--json"))
    assert (found["payload"], found["unreadable"]) == (None, "its checksum is wrong")
    assert found["raw"] == "/wBkYW1hZ2Vk"


def test_a_replay_delivers_what_it_moves(folder: Path, outbox: Path, run: Run) -> None:
    """The letters of the group are delivered with their ids, the others stay; the audit adds up."""
    (letter, *_) = kill(outbox, orders(3))
    kill(outbox, [row("a", "file.orders", {"id": "other"})], text="other")
    group = letter.fingerprint[:6]
    dry = run("dead", "replay", "--group", group, "--dry-run")
    assert dry.stdout.startswith("3 selected as of ")
    assert dry.stdout.endswith("; nothing was changed\n")
    assert total(outbox) == 4
    done = run("dead", "replay", "--group", group, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    found = data(done)
    assert (found["ok"], found["selected"], found["replayed"], found["refused"]) == (True, 3, 3, [])
    assert (found["outcomes"]["ok"], found["kept"], found["left"]) == (3, 0, 0)
    assert sorted(one["id"] for one in delivered(folder)) == [0, 1, 2]
    assert total(outbox) == 1
    assert run("audit").returncode == 0
    gone = run("dead", "replay", "--group", group, "--yes")
    assert gone.returncode == 1
    assert f"there is no group '{group}' of dead letters; it was replayed or dropped" in gone.stderr


def test_a_replay_that_fails_again(outbox: Path, run: Run) -> None:
    """Letters that die again are counted as such, with exit code 1, and know their replays."""
    kill(outbox, [row("m0", "stub.broken"), row("m1", "stub.broken")])
    done = run("dead", "replay", "--all", "--yes")
    assert (done.returncode, done.stdout) == (1, "2 selected, 2 replayed; 2 dead again\n")
    found = data(run("dead", "list", "--json"))
    assert [(one["count"], one["replayed"]) for one in found["groups"]] == [(2, 2)]
    history = data(run("dead", "show", "m0", "--json"))["history"]
    assert [one["error"].partition(":")[0] for one in history] == ["RejectedError", "DeliveryError"]


def test_a_replay_with_edits_to_another_channel(folder: Path, outbox: Path, run: Run) -> None:
    """Values at paths, a whole payload, another channel; what does not fit is refused and stays."""
    kill(outbox, [*orders(2), row("m9", "file.orders", {"id": 9})])
    done = run(
        "dead", "replay", "--all", "--yes", "--to", "spare", "--set", "lines[0].n=7", "--set", "note=é"
    )
    assert done.returncode == 1
    assert "m9: its payload has no 'lines' to set" in done.stderr
    assert done.stdout == "3 selected, 2 replayed; 2 delivered; 1 refused\n"
    assert sorted(delivered(folder), key=lambda one: one["id"]) == [
        {"id": 0, "lines": [{"n": 7}], "note": "é"},
        {"id": 1, "lines": [{"n": 7}], "note": "é"},
    ]
    whole = run("dead", "replay", "m9", "--yes", "--payload", "-", text='{"id": 10}')
    assert whole.returncode == 0, whole.stderr
    assert {"id": 10} in delivered(folder)
    audit = data(run("audit", "--json"))
    assert audit["balanced"]
    assert audit["targets"]["file.spare"]["ok"] == 2
    again = run("dead", "replay", "m9", "m-never", "--yes")
    assert (again.returncode, again.stdout) == (1, "2 selected, 0 replayed; 2 refused\n")
    assert "m9: already replayed" in again.stderr
    assert "m-never: gone" in again.stderr


def test_a_letter_whose_channel_is_gone(folder: Path, outbox: Path, run: Run) -> None:
    """It is refused by its own channel, and goes to another one."""
    kill(outbox, [row("m0", "file.renamed", {"id": 0})])
    refused = run("dead", "replay", "m0", "--yes")
    assert refused.returncode == 1
    assert (
        "m0: file.renamed is no enabled channel of the configuration: replay it to another one"
        in refused.stderr
    )
    assert total(outbox) == 1
    assert run("dead", "replay", "m0", "--yes", "--to", "file.orders").returncode == 0
    assert delivered(folder) == [{"id": 0}]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["replay", "--yes"], "name the letters that are meant: ids, --group"),
        (["drop", "--yes"], "name the letters that are meant: ids, --group"),
        (["replay", "--all"], "needs --yes without a terminal"),
        (["drop", "--all"], "needs --yes without a terminal"),
        (["replay", "--all", "--channel", "orders"], "give either --all or what narrows it"),
        (["replay", "--all", "--payload", "1"], "it is for one letter; 2 are selected"),
        (["replay", "--all", "--payload", "1", "--set", "a=1"], "give either --set or --payload"),
        (["replay", "--all", "--set", "a..b=1"], "'a..b' is not a path"),
        (["replay", "--all", "--set", "a"], "not of the form name=value"),
        (["replay", "--all", "--rate", "fast"], "is not a rate like '100/s'"),
        (["replay", "--all", "--to", "order"], "no channel 'order'; nearest: 'orders'"),
        (["list", "--since", "yesterday"], "'yesterday' is no time"),
        (["show", "m0"], "several targets have this id: file.orders, file.spare"),
    ],
)
def test_wrong_use_changes_nothing(outbox: Path, run: Run, arguments: list[str], reason: str) -> None:
    """Exit code 2, the reason on stderr, and every letter still there."""
    kill(outbox, [row("m0", "file.orders"), row("m0", "file.spare")])
    done = run("dead", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in " ".join(done.stderr.split())
    assert total(outbox) == 2


def test_a_channel_that_is_not_durable_takes_letters(folder: Path, outbox: Path, run: Run) -> None:
    """A letter is removed once its message was delivered there; one that is not stays."""
    kill(outbox, [row("m0", "file.orders", {"id": 0}), row("m1", "stub.broken", {"id": 1})])
    done = run("dead", "replay", "--all", "--yes", "--to", "memory")
    assert (done.returncode, done.stdout) == (0, "2 selected, 2 replayed; 2 delivered\n")
    assert sorted(one["id"] for one in delivered(folder)) == [0, 1]
    assert total(outbox) == 0
    audit = data(run("audit", "--json"))
    assert audit["balanced"]
    assert [audit["targets"][name]["replayed"] for name in ("file.orders", "stub.broken")] == [1, 1]
    kill(outbox, [row("m2", "file.orders", {"id": 2})])
    refused = run("dead", "replay", "m2", "--yes", "--to", "fails")
    assert "m2: it was published, and ended as fatal" in refused.stderr
    assert total(outbox) == 1


def test_drop(outbox: Path, run: Run) -> None:
    """Letters are removed for good; an id that is not there is named, with exit code 1."""
    kill(outbox, orders(3))
    done = run("dead", "drop", "m0", "m7", "--yes")
    assert (done.returncode, done.stdout) == (1, "1 dead letter dropped\n")
    assert "m7: gone" in done.stderr
    assert data(run("dead", "drop", "--all", "--yes", "--json")) == {
        "selected": 2,
        "dropped": 2,
        "missing": {},
    }
    assert run("dead", "list").stdout == ""
    assert "dead" not in run("audit").stdout


def test_an_export_can_be_published(folder: Path, outbox: Path, run: Run) -> None:
    """``publish --format record`` reads it, and sends each message to its target, with id and headers."""
    kill(outbox, orders(2, options=dump_value({"headers": {"tenant": "blue"}})))
    done = run("dead", "export", "--channel", "orders")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["id"], one["origin"]["target"]) for one in records] == [
        ("m0", "file.orders"),
        ("m1", "file.orders"),
    ]
    assert records[0]["headers"] == {"tenant": "blue"}
    assert "2 dead letters exported" in done.stderr
    assert data(run("dead", "export", "--json")) == records
    (folder / "dead.jsonl").write_text(done.stdout)
    published = run("publish", "--from", "dead.jsonl", "--format", "record")
    assert published.returncode == 0, published.stderr
    assert [one["id"] for one in delivered(folder)] == [0, 1]


def test_an_interrupted_replay_can_be_run_again(folder: Path, outbox: Path, run: Run) -> None:
    """SIGTERM ends it after the step that runs; the next replay takes the rest, each is delivered once."""
    kill(outbox, orders(6))
    process = subprocess.Popen(
        [*PROGRAM, "dead", "replay", "--all", "--yes", "--rate", "20/min", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = SqliteJournal(outbox)
    wait_until(lambda: process.poll() is not None or journal.accounts()["file.orders"].replayed)
    journal.close()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    found = json.loads(out)
    assert process.returncode == 143
    assert (found["signal"], found["ok"]) == (15, False)
    assert 1 <= found["replayed"] < 6
    assert found["left"] == 6 - found["replayed"]
    again = data(run("dead", "replay", "--all", "--yes", "--json"))
    assert again["selected"] == found["left"]
    assert sorted(one["id"] for one in delivered(folder)) == list(range(6))


def test_a_killed_replay_loses_nothing(folder: Path, outbox: Path, run: Run) -> None:
    """SIGKILL at any moment: each message is a dead letter, or waits, or was delivered; the rest follows."""
    kill(outbox, orders(60))
    journal = SqliteJournal(outbox)
    for number in (3, 20, 35):
        process = subprocess.Popen(
            [*PROGRAM, "dead", "replay", "--all", "--yes", "--rate", "100/s"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda at=number: journal.accounts()["file.orders"].replayed >= at)
        process.kill()
        process.wait()
        account = journal.accounts()["file.orders"]
        assert account.dead + account.replayed == 60
        assert account.difference == 0
    journal.close()
    done = run("dead", "replay", "--all", "--yes")
    assert done.returncode == 0, done.stderr
    run("dead", "replay", "m0", "--yes")  # nothing is left, but this process takes over what waits
    ids = [one["id"] for one in delivered(folder)]
    assert sorted(set(ids)) == list(range(60))
    assert run("audit").returncode == 0


def test_there_is_no_outbox(folder: Path, run: Run) -> None:
    """A file that is not there is not made, and is named; ``--url`` names another one."""
    for arguments in (["dead", "list"], ["dead", "export"], ["dead", "drop", "--all", "--yes"]):
        done = run(*arguments)
        assert done.returncode == 1
        assert (
            "rambla-outbox.db: there is no such file; it is made by the first durable publish" in done.stderr
        )
    assert not (folder / "rambla-outbox.db").exists()
    kill(folder / "copy.db", orders(1))
    assert data(run("dead", "list", "--json", "--url", "sqlite:///copy.db"))["total"] == 1
