"""What ``rambla check`` says about the outbox."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def checked(folder: Path, url: str) -> dict[str, Any]:
    """Return what the check of a durable channel with a fallback says about the outbox."""
    (folder / "rambla.toml").write_text(f"""
[rambla.outbox]
url = "{url}"
[null.channels.orders]
durable = true
fallback = "spare"
[null.channels.spare]
""")
    done = subprocess.run(
        [sys.executable, "-m", "rambla_py.cli", "check", "--json", "--config", "rambla.toml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    document = json.loads(done.stdout)
    assert document["ok"] == (done.returncode == 0)
    (found,) = [target for target in document["targets"] if target["target"] == "outbox"]
    return dict(found)


def test_a_file_that_is_missing_is_named_and_not_made(tmp_path: Path) -> None:
    """A durable channel with a fallback and without an expiry is pointed out."""
    found = checked(tmp_path, "sqlite:///outbox.db")
    assert found["status"] == "ok"
    assert found["would_create"] == [str(tmp_path / "outbox.db")]
    assert "null.orders has a fallback and no expires_s" in found["not_checked"][0]
    assert not (tmp_path / "outbox.db").exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("a text, and no database"), "not a database"),
        (lambda path: path.mkdir(), "a directory"),
    ],
    ids=["text", "directory"],
)
def test_what_is_no_journal_is_a_problem(tmp_path: Path, make: Any, reason: str) -> None:
    """A text file, and a directory."""
    make(tmp_path / "outbox.db")
    found = checked(tmp_path, "sqlite:///outbox.db")
    assert found["status"] == "failed"
    assert reason in found["problems"][0]["error"]
