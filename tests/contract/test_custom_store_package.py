"""examples/custom_store, as a third-party package: installed, found by its entry point, and tested."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rambla_py

PACKAGE = Path(__file__).parents[2] / "examples" / "custom_store"
ROOT = Path(rambla_py.__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package was installed into, from a copy: building leaves its traces."""
    if importlib.util.find_spec("hatchling") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("hatchling is missing, which the extra 'dev' brings")
        pytest.skip("building the example needs hatchling")
    source = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "custom_store")
    folder = tmp_path_factory.mktemp("installed")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--quiet", "--target", str(folder), str(source)],
        check=True,
        timeout=100,
    )
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(installed), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.timeout(400)  # a whole contract suite
def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    """The contract of state stores, with nothing skipped and no warning; and its scheme is known."""
    shutil.copytree(PACKAGE / "tests", tmp_path / "tests")
    shutil.copy(PACKAGE / "pyproject.toml", tmp_path)
    done = run(installed, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 40
    assert not re.search(r"skipped|warning", done.stdout)
