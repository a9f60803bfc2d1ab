"""Promises and the disk: SIGKILL cannot show a missing sync, a record of the system calls can."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from outboxes import NAME
from recording import LOG, MAIN, PROMISES, SYNC_BEGINS, SYNC_ENDS, WRITE, Call, calls_of, environment, image

from rambla_py.outbox.sqlite.journal import SqliteJournal

_EACH = 60
_IMAGES = 200


def _recorded(folder: Path, *, deliver: bool) -> list[Call]:
    program = Path(__file__).with_name("recorded_program.py")
    command = [sys.executable, str(program), str(folder), str(_EACH), str(int(deliver))]
    subprocess.run(command, env=environment(folder / "calls"), check=True, timeout=60)
    return calls_of(folder / "calls")


def _marks(call: Call) -> list[tuple[str, str]]:
    """Return what the program recorded with a call: promises and deliveries, by id."""
    if call.file != PROMISES or call.kind != WRITE:
        return []
    return re.findall(r"(promised|delivered) (<message \d+ \d+>)", call.data.decode())


@pytest.mark.parametrize("deliver", [False, True], ids=["only stored", "delivered as well"])
def test_each_promise_follows_a_sync_that_began_after_its_write(tmp_path: Path, deliver: bool) -> None:
    """Of the log, completed without an error, for 3 threads with 60 messages each."""
    calls = _recorded(tmp_path, deliver=deliver)
    written: dict[str, int] = {}
    begun: dict[int, int] = {}
    synced = promised = 0
    for at, call in enumerate(calls):
        if call.file == LOG and call.kind == WRITE:
            for name in re.findall(rb"<message \d+ \d+>", call.data):
                written.setdefault(name.decode(), at)
        elif call.file == LOG and call.kind == SYNC_BEGINS:
            begun[call.thread] = at
        elif call.file == LOG and call.kind == SYNC_ENDS:
            synced = max(synced, begun.pop(call.thread))
        for mark, name in _marks(call):
            if mark == "promised":
                promised += 1
                assert written[name] < synced, f"{name} was promised before it was synced"
    assert promised == 3 * _EACH


@pytest.mark.parametrize("deliver", [False, True], ids=["only stored", "delivered as well"])
def test_every_power_cut_leaves_what_was_promised(tmp_path: Path, deliver: bool) -> None:
    """200 images of any prefix of the calls, unsynced writes lost or torn: each opens, and adds up."""
    calls = _recorded(tmp_path, deliver=deliver)
    assert any(call.file == MAIN and call.kind == SYNC_ENDS for call in calls), "no checkpoint was seen"
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    seen = 0
    for number in range(_IMAGES):
        cut = rng.randrange(len(calls)) if number else len(calls)
        folder = tmp_path / str(number)
        folder.mkdir()
        image(calls[:cut], folder, rng)
        promised: set[str] = set()
        delivered: set[str] = set()
        for call in calls[:cut]:
            for mark, name in _marks(call):
                (promised if mark == "promised" else delivered).add(name)
        lost = promised - delivered - _stored(folder / "outbox.db")
        assert not lost, f"seed {seed}, image {number}, cut after call {cut}"
        seen += bool(promised)
    assert seen > _IMAGES / 2


def _stored(path: Path) -> set[str]:
    journal = SqliteJournal(path, reserve_bytes=0)
    journal.open(delivers=True)
    try:
        accounts, sequence = journal.ledger()
        assert all(account.difference == 0 for account in accounts.values())
        assert sum(account.accepted for account in accounts.values()) == sequence
        shares = [share.number for share in journal.claim()]
        rows = [row for share in shares for row in journal.read(share, NAME, 0, 1_000)]
        assert all(row.sound for row in rows)
        return {row.id for row in rows}
    finally:
        journal.close()
