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
FILES = CORRECT, MISSPELT = HERE / "correct_use.py", HERE / "misspelt_use.py"


def output_of(program: str, *arguments: str) -> str:
    finished = subprocess.run(
        [str(BIN / program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return finished.stdout


Errors = dict[Path, set[int]]
"""The lines with errors, of each file."""


def errors_in(output: str, after: str) -> Errors:
    return {file: _lines_in(output, file, after) for file in FILES}


def _lines_in(output: str, file: Path, after: str) -> set[int]:
    return {int(number) for number in re.findall(rf"{file.name}:(\d+):{after}", output)}


def mypy(folder: Path) -> Errors:
    cache = f"--cache-dir={folder}"
    return errors_in(output_of("mypy", "--strict", cache, *map(str, FILES)), " error")


def basedpyright(folder: Path) -> Errors:
    project = folder / "pyrightconfig.json"
    settings = {"include": [*map(str, FILES)], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    project.write_text(json.dumps(settings))
    report = json.loads(
        output_of("basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(project))
    )
    assert report["summary"]["filesAnalyzed"] == len(FILES)
    errors = [found for found in report["generalDiagnostics"] if found["severity"] == "error"]
    return {
        file: {error["range"]["start"]["line"] + 1 for error in errors if Path(error["file"]) == file}
        for file in FILES
    }


def pyrefly(folder: Path) -> Errors:
    interpreter = ["--python-interpreter-path", sys.executable]
    output = output_of("pyrefly", "check", *interpreter, "--output-format=min-text", *map(str, FILES))
    return errors_in(output, "")


@pytest.fixture(scope="module", params=[mypy, basedpyright, pyrefly], ids=lambda checker: checker.__name__)
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Errors:
    """What one checker reports: it reads the package once for both files."""
    checker: Callable[[Path], Errors] = request.param
    return checker(tmp_path_factory.mktemp(checker.__name__))


def test_correct_use_is_accepted_in_strict_mode(errors: Errors) -> None:
    """Neither applications nor handlers need an ignore."""
    assert errors[CORRECT] == set()


def test_every_misspelt_name_is_reported(errors: Errors) -> None:
    """Each marked line is an error, and no other line is."""
    lines = MISSPELT.read_text("utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert errors[MISSPELT] == wrong
