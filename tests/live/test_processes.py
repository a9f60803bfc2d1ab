"""Each case of the table in ``docs/guarantees.md`` runs as a program, and ends as the table says."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import guarantees_page
import outboxes
import pytest
from guarantees_page import Row

from rambla_py.testing.processes import end_group

_EXIT_CODES = {
    "exception": 1,
    "os_exit": 3,
    "sigint": -signal.SIGINT,
    "sigkill": -signal.SIGKILL,
    "sigkill_while_publishing": -signal.SIGKILL,
    "sigterm": -signal.SIGTERM,
    "stop_interrupted_by_sigint": -signal.SIGINT,
    "stop_wrong_timeout": 1,
    "sys_exit": 3,
}
_DURABLE = sorted(filter(guarantees_page.is_durable, guarantees_page.recipes()))
_IN_MEMORY = sorted(guarantees_page.recipes() - set(_DURABLE))
_PACKAGES = {"gunicorn": "gunicorn", "gunicorn_gevent": "gevent", "uvicorn": "uvicorn", "celery": "celery"}


class Kept(NamedTuple):
    """What became of the messages of one run, by id; ``delivered`` in order, with repetitions.

    ``stored`` are those in the outbox at the end.
    """

    accepted: set[str]
    delivered: list[str]
    outcomes: dict[str, str]
    stored: frozenset[str] = frozenset()

    @property
    def dropped(self) -> set[str]:
        return {name for name, status in self.outcomes.items() if status == "dropped"}

    @property
    def left(self) -> set[str]:
        """Those that were not delivered, and are dropped or stored."""
        return self.dropped | (self.stored - set(self.delivered))

    @property
    def lost(self) -> set[str]:
        """Those that were reported to no one, and are not stored."""
        return self.accepted - set(self.delivered) - self.dropped - self.stored

    def as_row(self) -> Row:
        """Say it in the words of the table."""
        return Row(*(self._share(names) for names in (set(self.delivered), self.left, self.lost)))

    def _share(self, names: set[str]) -> str:
        return "none" if not names else "all" if names == self.accepted else "some"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", _IN_MEMORY)
def test_each_case_keeps_what_the_table_says(case: str, tmp_path: Path) -> None:
    """What was delivered, dropped with an outcome, and lost is what the row of the table says."""
    _require(case)
    kept = _run(case, tmp_path)
    assert kept.accepted
    assert kept.as_row() == guarantees_page.rows()[case], _summary(kept)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", _DURABLE)
def test_each_durable_case_loses_nothing(case: str, tmp_path: Path) -> None:
    """The row says what was delivered and what is kept; the next run delivers that, and the accounts add up."""
    _require(case)
    before = _run(case, tmp_path)
    assert before.as_row() == guarantees_page.rows()[case], _summary(before)
    after = _run("_next_run", tmp_path)
    assert set(after.delivered) == before.accepted, _summary(after)
    assert not after.stored
    account = outboxes.account(tmp_path, "file.orders")
    assert account.accepted == account.ok >= len(before.accepted)
    again = len(after.delivered) - len(set(after.delivered))
    print(f"{case}: {len(before.accepted)} accepted, {len(before.stored)} kept, {again} delivered twice")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", ["sigkill", "plain_exit_short", "os_fork", "two_apps"])
def test_no_message_has_two_ends(case: str, tmp_path: Path) -> None:
    """A message is delivered once, and one with the outcome ``dropped`` is not delivered as well."""
    kept = _run(case, tmp_path)
    assert len(kept.delivered) == len(set(kept.delivered))
    assert not kept.dropped & set(kept.delivered)
    assert {name for name, status in kept.outcomes.items() if status == "ok"} <= set(kept.delivered)


def _run(case: str, folder: Path) -> Kept:
    """Run a recipe to its end, and read what it left in the folder."""
    command = [sys.executable, "-X", "faulthandler", str(guarantees_page.RECIPES / f"{case}.py")]
    environment = {**os.environ, "RECIPE_FOLDER": str(folder)}
    with (folder / "said").open("wb") as said_file:
        program = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, stdout=said_file, stderr=said_file
        )
        try:
            program.wait(90)
        finally:
            end_group(program, signal.SIGABRT)
    said = (folder / "said").read_text()
    assert program.returncode == _EXIT_CODES.get(case.removeprefix("durable_"), 0), said
    lines = [json.loads(line)["id"] for line in _lines(folder / "delivered")]
    accepted = set(_lines(folder / "accepted"))
    return Kept(
        accepted=accepted,
        delivered=[name for name in lines if name in accepted],
        outcomes=dict(line.split() for line in _lines(folder / "outcomes")),
        stored=_stored(folder / "outbox.db") & accepted,
    )


def _stored(path: Path) -> frozenset[str]:
    """Return the names of the messages in an outbox."""
    if not path.exists():
        return frozenset()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return frozenset(
            json.loads(payload)["id"]
            for (payload,) in connection.execute("SELECT payload FROM rambla_message")
        )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _summary(kept: Kept) -> str:
    counts = {
        "accepted": kept.accepted,
        "delivered": kept.delivered,
        "dropped or stored": kept.left,
        "lost": kept.lost,
    }
    return ", ".join(f"{len(names)} {word}" for word, names in counts.items())


def _require(case: str) -> None:
    """Skip the case when its package is missing, naming it; under CI fail it."""
    needed = [name for prefix, name in _PACKAGES.items() if case.removeprefix("durable_").startswith(prefix)]
    for name in needed:
        if importlib.util.find_spec(name) is None:
            reason = f"{case} needs the package {name}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
