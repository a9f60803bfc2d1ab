"""Each case of the table in ``docs/guarantees.md`` runs as a program, and ends as the table says."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import guarantees_page
import pytest
from guarantees_page import Row

from rambla_py.testing.processes import end_group

_EXIT_CODES = {
    "exception": 1,
    "os_exit": 3,
    "sigint": -signal.SIGINT,
    "sigkill": -signal.SIGKILL,
    "sigterm": -signal.SIGTERM,
    "sys_exit": 3,
}
_PACKAGES = {"gunicorn": "gunicorn", "gunicorn_gevent": "gevent", "uvicorn": "uvicorn", "celery": "celery"}


class Kept(NamedTuple):
    """What became of the messages of one run, by id; ``delivered`` in order, with repetitions."""

    accepted: set[str]
    delivered: list[str]
    outcomes: dict[str, str]

    @property
    def dropped(self) -> set[str]:
        return {name for name, status in self.outcomes.items() if status == "dropped"}

    @property
    def lost(self) -> set[str]:
        """Those of which nobody was ever told."""
        return self.accepted - set(self.delivered) - self.dropped

    def as_row(self) -> Row:
        """Say it in the words of the table."""
        return Row(*(self._share(names) for names in (set(self.delivered), self.dropped, self.lost)))

    def _share(self, names: set[str]) -> str:
        return "none" if not names else "all" if names == self.accepted else "some"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", sorted(guarantees_page.recipes()))
def test_each_case_keeps_what_the_table_says(case: str, tmp_path: Path) -> None:
    """What was delivered, dropped with an outcome, and lost is what the row of the table says."""
    _require(case)
    kept = _run(case, tmp_path)
    assert kept.accepted
    assert kept.as_row() == guarantees_page.rows()[case], _told(kept)


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
    assert program.returncode == _EXIT_CODES.get(case, 0), said
    lines = [json.loads(line)["id"] for line in _lines(folder / "delivered")]
    accepted = set(_lines(folder / "accepted"))
    return Kept(
        accepted=accepted,
        delivered=[name for name in lines if name in accepted],
        outcomes=dict(line.split() for line in _lines(folder / "outcomes")),
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _told(kept: Kept) -> str:
    counts = {
        "accepted": kept.accepted,
        "delivered": kept.delivered,
        "dropped": kept.dropped,
        "lost": kept.lost,
    }
    return ", ".join(f"{len(names)} {word}" for word, names in counts.items())


def _require(case: str) -> None:
    """Skip the case when its package is missing, naming it; under CI fail it."""
    needed = [name for prefix, name in _PACKAGES.items() if case.startswith(prefix)]
    for name in needed:
        if importlib.util.find_spec(name) is None:
            reason = f"{case} needs the package {name}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
