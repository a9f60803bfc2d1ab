"""Forks: each process is an owner of its own, and nothing is shared but the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox_nursery import Nursery, kill, lines
from outboxes import account
from waiting import wait_until


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    program = Nursery()
    yield program
    program.close()


def test_workers_of_a_prefork_server(nursery: Nursery, tmp_path: Path) -> None:
    """Three workers on one file deliver their own messages, and adopt nothing of the living master."""
    master = nursery.start("prefork", tmp_path, workers=3, many=20)
    wait_until(lambda: lines(tmp_path / "codes"))
    assert json.loads(lines(tmp_path / "codes")[0]) == [0, 0, 0]
    delivered = lines(tmp_path / "delivered")
    assert sorted(delivered) == sorted(lines(tmp_path / "promised"))
    assert len(delivered) == 3 * 2 * 20
    assert account(tmp_path).pending == 20
    kill(master)
    nursery.run("drain", tmp_path)
    assert lines(tmp_path / "delivered")[len(delivered) :] == [f"master/{at}" for at in range(20)]


def test_forks_while_threads_publish(nursery: Nursery, tmp_path: Path) -> None:
    """The connection is closed before a fork, between two commits; both sides go on."""
    nursery.run("fork_while_publishing", tmp_path, forks=12)
    assert json.loads(lines(tmp_path / "codes")[0]) == [0] * 12
    nursery.run("drain", tmp_path)
    delivered, promised = lines(tmp_path / "delivered"), lines(tmp_path / "promised")
    assert set(delivered) >= set(promised)
    assert sum(name.startswith("child") for name in promised) == 36
    assert account(tmp_path).pending == 0
