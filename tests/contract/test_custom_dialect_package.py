"""examples/custom_dialect, as a third-party package: installed, found by its entry point, and tested."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rambla_py

PACKAGE = Path(__file__).parents[2] / "examples" / "custom_dialect"
ROOT = Path(rambla_py.__file__).parents[1]


@pytest.mark.timeout(400)  # a whole contract suite
def test_its_own_tests_pass(tmp_path: Path) -> None:
    """The contract holds on DuckDB, with nothing skipped and no warning."""
    for name in ("hatchling", "duckdb"):
        if os.environ.get("CI") != "true":
            pytest.importorskip(name)
    source = shutil.copytree(PACKAGE, tmp_path / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            *offline,
            "-q",
            "--target",
            str(tmp_path / "p"),
            str(source),
        ],
        check=True,
        timeout=100,
    )
    paths = [str(tmp_path / "p"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=source,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 40
    assert not re.search(r"skipped|warning", done.stdout)
