"""Processes that are killed at random moments: what publish returned for is delivered, sooner or later."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outbox_nursery import Nursery, alive, kill, lines
from outboxes import account
from waiting import wait_until

from rambla_py.outbox.dead import Selection
from rambla_py.outbox.sqlite.dead_letters import SqliteDeadLetters
from rambla_py.testing.processes import deadline

_KILLS = int(os.environ.get("RAMBLA_KILLS", "40"))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    program = Nursery()
    yield program
    program.close()


@pytest.mark.parametrize(
    ("threads", "channel"),
    [
        (1, {}),
        (4, {}),
        (2, {"pause_s": 0.002}),
        (4, {"max_pending": 20, "pause_s": 0.0005}),
    ],
    ids=["one thread", "four threads", "a slow backend", "spilled"],
)
def test_sigkill_at_random_moments(
    nursery: Nursery, tmp_path: Path, threads: int, channel: dict[str, Any]
) -> None:
    """Lost: none. Duplicates are what was between the answer and its removal. The order of a key holds."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    for number in itertools.count():
        more = number - (_KILLS + 3) // 4
        if more >= 0 and len(lines(tmp_path / "promised")) > 20:
            break
        pid = nursery.start("publish", tmp_path, number=number, threads=threads, **channel)
        # On a busy machine 0.35 s may be too short for a start: it must publish something, sooner or later.
        for _ in deadline(rng.uniform(0.0, 0.35 * max(1, more)), poll_s=0.005):
            assert alive(pid), "it ended by itself"
        kill(pid)
    promised = lines(tmp_path / "promised")
    before = account(tmp_path)
    nursery.run("drain", tmp_path)
    delivered = lines(tmp_path / "delivered")
    lost = set(promised) - set(delivered)
    duplicates = len(delivered) - len(set(delivered))
    print(
        f"{threads} threads, seed {seed}: {len(promised)} promised, {before.pending} left by the last kill,"
    )
    print(f"{len(delivered)} delivered, {duplicates} of them again, lost {len(lost)}")
    assert lost == set(), f"seed {seed}"
    assert len(promised) > 20
    after = account(tmp_path)
    assert after.pending == after.dead == 0
    assert after.ok == after.accepted >= len(promised)
    for key in {name.split("/")[1] for name in delivered}:
        first = list(dict.fromkeys(name for name in delivered if name.split("/")[1] == key))
        assert first == sorted(first, key=_place), f"the order of {key}, seed {seed}"


def _place(name: str) -> tuple[int, int, int]:
    run, _, at, part = name.split("/")
    return int(run), int(at), int(part)


def test_a_living_process_adopts_what_a_killed_one_left(nursery: Nursery, tmp_path: Path) -> None:
    """Within seconds: it need not be restarted, and need not publish."""
    stuck = nursery.start("keep", tmp_path, number=1, many=20, pause_s=3600.0)
    idle = nursery.start("keep", tmp_path, number=2, many=0)
    wait_until(lambda: len(lines(tmp_path / "ready")) == 2)
    assert account(tmp_path).pending == 20
    kill(stuck)
    began = time.monotonic()
    wait_until(lambda: len(set(lines(tmp_path / "delivered"))) == 20)
    print(f"adopted and delivered after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < 5
    kill(idle)


def test_the_parent_is_killed_while_its_forked_child_lives(nursery: Nursery, tmp_path: Path) -> None:
    """The child does not keep the parent's rows, and they not it: others adopt them at once."""
    parent = nursery.start("fork", tmp_path, many=10)
    wait_until(lambda: lines(tmp_path / "child"))
    (child,) = map(int, lines(tmp_path / "child"))
    assert account(tmp_path).pending == 11
    kill(parent)
    adopter = nursery.start("keep", tmp_path, number=3, many=0)
    wait_until(lambda: len(lines(tmp_path / "delivered")) == 10)
    assert alive(child)
    assert {name.split("/")[0] for name in lines(tmp_path / "delivered")} == {"parent"}
    kill(child)
    wait_until(lambda: "child" in lines(tmp_path / "delivered"))
    kill(adopter)


@pytest.mark.parametrize("deliver", [True, False], ids=["own rows", "rows of a process that only writes"])
def test_a_message_that_kills_its_process(nursery: Nursery, tmp_path: Path, deliver: bool) -> None:
    """It ends as a dead letter with the reason crash, after a bounded number of deaths; others are delivered."""
    nursery.run("write_poison", tmp_path, deliver=deliver, others=30)
    retries, deaths = 1, int(deliver)
    while account(tmp_path).pending and deaths < 20:
        nursery.run("drain", tmp_path, options={"retries": retries})
        deaths += 1
    print(f"{deaths} deaths")
    # Twice among others, then alone: each attempt is marked before it is made.
    assert deaths <= 2 + (1 + retries) + 1
    letters = SqliteDeadLetters(tmp_path / "outbox.db")
    (letter,) = letters.read(list(letters.select(Selection(channel="orders")).letters))
    letters.close()
    assert letter.reason == "crash"
    good = Counter(name for name in lines(tmp_path / "delivered"))
    assert set(good) == {f"good/{at}" for at in range(30)}
    assert account(tmp_path).ok == 30
