"""Every example in a docstring of the package runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# All modules are imported in one process, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(330)

RUNNER = Path(__file__).with_name("run_doctests.py")


@pytest.fixture(scope="module")
def report() -> tuple[dict[str, tuple[int, int]], str]:
    """What each module's doctests gave, and what was said about it."""
    paths = [str(RUNNER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(RUNNER)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, _, counts = done.stdout.rstrip().rpartition("\n")
    return json.loads(counts), said


def test_examples_in_docstrings_run(report: tuple[dict[str, tuple[int, int]], str]) -> None:
    """The doctests of all modules give what they show."""
    counts, said = report
    assert [name for name, (failed, _) in counts.items() if failed] == [], said


def test_there_are_doctests(report: tuple[dict[str, tuple[int, int]], str]) -> None:
    """The search finds them: were it broken, the test above could not fail."""
    counts, _ = report
    assert counts["rambla_py.policy"][1] >= 5
    assert sum(attempted for _, attempted in counts.values()) > 100
