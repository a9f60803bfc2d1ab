"""Relays of a PostgreSQL outbox that are killed at random moments: what publish returned for is delivered."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox_databases import Database
from outbox_nursery import Nursery, alive, kill, lines
from outbox_victim import recorder
from outboxes import NAME, table_of

from rambla_py import Rambla
from rambla_py.testing.harness import until
from rambla_py.testing.processes import deadline

_KILLS = int(os.environ.get("RAMBLA_KILLS", "20"))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    program = Nursery("rambla_py.outbox.postgres.journal")
    yield program
    program.close()


def end_leases(database: Database) -> None:
    """Let all leases be over, by the database's clock; a relay that lives keeps those that it renews first."""
    past = "now() - interval '1 minute'"
    for table in ("rambla_relay", "rambla_bucket"):
        database.query(f"UPDATE {table} SET until = {past}")


@pytest.mark.parametrize("together", [1, 3], ids=["one after the other", "three at a time"])
def test_sigkill_of_relays_at_random_moments(
    nursery: Nursery, empty_postgres: Database, tmp_path: Path, together: int
) -> None:
    """Lost: none. Duplicates are what was between the answer and its removal. The order of a key holds."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    relays: list[int] = []
    for number in range(_KILLS // 2):
        while len(relays) < together:
            ready = len(lines(tmp_path / "promised"))
            name = number * together + len(relays)
            relays.append(nursery.start("relay", tmp_path, url=empty_postgres.url, number=name))
            assert until(functools.partial(_more_than, ready, tmp_path / "promised"), 30)
        for _ in deadline(rng.uniform(0.0, 0.3), poll_s=0.005):
            assert all(map(alive, relays)), "one ended by itself"
        kill(relays.pop(rng.randrange(len(relays))))
        end_leases(empty_postgres)
    for relay in relays:
        kill(relay)
    end_leases(empty_postgres)
    left = _kept(empty_postgres)
    table = table_of(tmp_path, recorder(tmp_path), {"url": empty_postgres.url, "poll_s": 0.1})
    with Rambla(table) as app:
        assert _drains(empty_postgres), f"seed {seed}"
        account = app.outbox.audit().targets[NAME]
    promised, delivered = lines(tmp_path / "promised"), lines(tmp_path / "delivered")
    lost = set(promised) - set(delivered)
    print(f"{together} together, seed {seed}: {len(promised)} promised, {left} left by the last kill,")
    print(
        f"{len(delivered)} delivered, {len(delivered) - len(set(delivered))} of them again, lost {len(lost)}"
    )
    assert lost == set(), f"seed {seed}"
    assert account.difference == account.dead == 0
    assert account.accepted == account.ok == len(set(delivered))
    for key in {name.split("/")[1] for name in promised} - {"None"}:
        first = list(dict.fromkeys(name for name in delivered if name.split("/")[1] == key))
        assert first == sorted(first, key=_place), f"the order of {key}, seed {seed}"


def _kept(database: Database) -> int:
    return int(database.query("SELECT count(*) FROM rambla_message")[0][0])


def _drains(database: Database) -> bool:
    """Whether rows go until there are none; after many deaths each goes alone, which takes its time."""
    left = _kept(database)
    while left and until(functools.partial(_fewer_than, left, database), 30):
        left = _kept(database)
    return not left


def _fewer_than(number: int, database: Database) -> bool:
    return _kept(database) < number


def _more_than(number: int, promised: Path) -> bool:
    return len(lines(promised)) > number


def _place(name: str) -> tuple[int, int]:
    _, _, at, part = name.split("/")
    return int(at), int(part)
