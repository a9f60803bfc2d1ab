"""A stop that is interrupted loses nothing: each message is delivered, or counted in a log line."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

PROGRAM = Path(__file__).with_name("interrupted_program.py")
_CLOSING = re.compile(
    r"^file\.orders: (\d+) not delivered \((?:(\d+) dropped)?(?:, )?(?:(\d+) unknown)?\)$", re.M
)


class _Run(NamedTuple):
    """When one process is interrupted, and again every ``again_s`` (0: once)."""

    folder: Path
    first_s: float
    again_s: float = 0.0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("again", [False, True], ids=["once", "again and again"])
@pytest.mark.parametrize("case", ["sigterm", "ctrl_c", "alarm", "bad_timeout"])
def test_each_message_is_delivered_or_counted(case: str, again: bool, tmp_path: Path) -> None:
    """Whenever the interruption comes, in ``stop`` or in the exit hook, and however often."""
    moments = random.Random(f"{case} {again} {os.getpid()}")
    runs = [_Run(tmp_path / str(number), moments.uniform(0.001, 0.8)) for number in range(4)]
    if again:
        runs = [run._replace(again_s=moments.uniform(0.05, 0.3)) for run in runs]
    for run, code in zip(runs, _run(case, runs), strict=True):
        log = (run.folder / "log").read_text()
        assert code >= -2, (run, log)
        _check(run, log)


def _run(case: str, runs: list[_Run]) -> list[int]:
    """Run the program to its end, and return the exit codes."""
    for run in runs:
        run.folder.mkdir()
    given = json.dumps([(str(run.folder), run.first_s, run.again_s) for run in runs])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), case, given],
        env={**os.environ, "RECIPE_FOLDER": str(runs[0].folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes: list[int] = json.loads(done.stdout)
    return codes


def _check(run: _Run, log: str) -> None:
    accepted = (run.folder / "accepted").read_text().splitlines()
    lines = (run.folder / "delivered").read_text().splitlines()
    delivered = Counter(json.loads(line)["id"] for line in lines)
    outcomes = dict(line.split() for line in (run.folder / "outcomes").read_text().splitlines())
    counts = Counter(outcomes.values())
    assert set(outcomes) == set(accepted), (run, log)
    assert set(outcomes.values()) <= {"ok", "dropped", "unknown"}
    assert {name for name, status in outcomes.items() if status == "ok"} <= set(delivered)
    assert not {name for name, status in outcomes.items() if status == "dropped"} & set(delivered)
    assert max(delivered.values(), default=1) == 1
    closing = [[int(number or 0) for number in found] for found in _CLOSING.findall(log)]
    left = counts["dropped"] + counts["unknown"]
    assert closing == ([[left, counts["dropped"], counts["unknown"]]] if left else []), (run, log)
