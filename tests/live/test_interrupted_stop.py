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

import pytest

PROGRAM = Path(__file__).with_name("interrupted_program.py")
_CLOSING = re.compile(
    r"^file\.orders: (\d+) not delivered \((?:(\d+) dropped)?(?:, )?(?:(\d+) unknown)?\)$", re.M
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("again", [False, True], ids=["once", "again and again"])
@pytest.mark.parametrize("case", ["sigterm", "ctrl_c", "alarm", "bad_timeout"])
def test_each_message_is_delivered_or_counted(case: str, again: bool, tmp_path: Path) -> None:
    """Whenever the interruption comes, in ``stop`` or in the exit hook, and however often."""
    moments = random.Random(f"{case} {again} {os.getpid()}")
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        first_s = moments.uniform(0.001, 0.8)
        _check(folder, _run(folder, case, first_s, moments.uniform(0.05, 0.3) if again else 0.0))


def _run(folder: Path, case: str, first_s: float, again_s: float) -> str:
    """Run the program to its end and return its log."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), case, str(first_s), str(again_s)],
        env={**os.environ, "RECIPE_FOLDER": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode >= -2, done.stderr
    return done.stdout


def _check(folder: Path, log: str) -> None:
    accepted = (folder / "accepted").read_text().splitlines()
    lines = (folder / "delivered").read_text().splitlines()
    delivered = Counter(json.loads(line)["id"] for line in lines)
    outcomes = dict(line.split() for line in (folder / "outcomes").read_text().splitlines())
    counts = Counter(outcomes.values())
    assert set(outcomes) == set(accepted), log
    assert set(outcomes.values()) <= {"ok", "dropped", "unknown"}
    assert {name for name, status in outcomes.items() if status == "ok"} <= set(delivered)
    assert not {name for name, status in outcomes.items() if status == "dropped"} & set(delivered)
    assert max(delivered.values(), default=1) == 1
    closing = [[int(number or 0) for number in found] for found in _CLOSING.findall(log)]
    left = counts["dropped"] + counts["unknown"]
    assert closing == ([[left, counts["dropped"], counts["unknown"]]] if left else []), log
