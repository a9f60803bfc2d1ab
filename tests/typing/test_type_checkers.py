"""What three type checkers say about the public API, used correctly and misspelt."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
CORRECT, MISSPELT = HERE / "correct_use.py", HERE / "misspelt_use.py"


def output_of(program: str, *arguments: str) -> str:
    finished = subprocess.run(
        [str(BIN / program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return finished.stdout


def lines_in(output: str, file: Path, after: str) -> set[int]:
    return {int(number) for number in re.findall(rf"{file.name}:(\d+):{after}", output)}


def mypy(file: Path, tmp_path: Path) -> set[int]:
    cache = f"--cache-dir={tmp_path}"
    return lines_in(output_of("mypy", "--strict", cache, str(file)), file, " error")


def basedpyright(file: Path, tmp_path: Path) -> set[int]:
    project = tmp_path / "pyrightconfig.json"
    settings = {"include": [str(file)], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    project.write_text(json.dumps(settings))
    report = json.loads(
        output_of("basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(project))
    )
    assert report["summary"]["filesAnalyzed"] == 1
    found = report["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


def pyrefly(file: Path, tmp_path: Path) -> set[int]:
    output = output_of(
        "pyrefly", "check", "--python-interpreter-path", sys.executable, "--output-format=min-text", str(file)
    )
    return lines_in(output, file, "")


Checker = Callable[[Path, Path], set[int]]
CHECKERS = pytest.mark.parametrize("checker", [mypy, basedpyright, pyrefly])


@CHECKERS
def test_correct_use_is_accepted_in_strict_mode(checker: Checker, tmp_path: Path) -> None:
    """Neither applications nor handlers need an ignore."""
    assert checker(CORRECT, tmp_path) == set()


@CHECKERS
def test_every_misspelt_name_is_reported(checker: Checker, tmp_path: Path) -> None:
    """Each marked line is an error, and no other line is."""
    lines = MISSPELT.read_text("utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert checker(MISSPELT, tmp_path) == wrong
