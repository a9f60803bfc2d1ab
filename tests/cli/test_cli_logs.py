"""Warnings of the command line as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[redis.connections.nobody]
url = "redis://:hunter2@127.0.0.1:1/0"
[redis.channels.orders]
connection = "nobody"
"""
COMMAND = ["publish", "orders", "x", "--connect-timeout", "0.5"]


def stderr_of(folder: Path, *arguments: str, **environ: str) -> str:
    (folder / "rambla.toml").write_text(CONFIG, "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAMBLA_")}
    done = subprocess.run(
        [sys.executable, "-m", "rambla_py", *arguments],
        cwd=folder,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    return done.stderr


def records_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [(["--log-format", "json", *COMMAND], {}), (COMMAND, {"RAMBLA_LOG_FORMAT": "json"})],
    ids=["option", "variable"],
)
def test_warnings_are_lines_of_json(tmp_path: Path, arguments: list[str], environ: dict[str, str]) -> None:
    """Each has its target and error."""
    first = records_in(stderr_of(tmp_path, *arguments, **environ))[0]
    assert (first["level"], first["service"], first["channel"]) == ("WARNING", "redis", "orders")
    assert first["worker"] == 0
    assert first["error_class"] == "ConnectionLostError"


def test_text_is_the_default(tmp_path: Path) -> None:
    """Without the option and the variable; the option wins over the variable."""
    said = stderr_of(tmp_path, "--log-format", "text", *COMMAND, RAMBLA_LOG_FORMAT="json")
    assert records_in(said) == []
    assert "warning: redis.orders" in said


def test_another_format_is_a_usage_error(tmp_path: Path) -> None:
    """The message names those that exist."""
    assert "json" in stderr_of(tmp_path, "--log-format", "xml", *COMMAND)
