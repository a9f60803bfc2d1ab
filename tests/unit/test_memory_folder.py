"""Temporary files of a test run are in memory where it is large enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import memory_folder

SHOWN = """
import os, sys, tempfile
from pathlib import Path
from memory_folder import use_memory
print(use_memory(Path(sys.argv[1]), int(sys.argv[2])), os.environ.get("TMPDIR"), tempfile.gettempdir())
"""


def used(parent: Path, needed_bytes: int = 0, **environ: str) -> list[str]:
    """Return what a new process got, its ``$TMPDIR``, and where its temporary files go."""
    kept = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    kept["PYTHONPATH"] = str(Path(memory_folder.__file__).parent)
    command = [sys.executable, "-c", SHOWN, str(parent), str(needed_bytes)]
    done = subprocess.run(command, env=kept | environ, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_temporary_files_go_there(tmp_path: Path) -> None:
    """The environment says so too, for the processes that tests start."""
    got, environ, temporary = used(tmp_path)
    assert Path(got).parent == tmp_path
    assert Path(got).stat().st_mode & 0o777 == 0o711
    assert got == environ == temporary


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    """With ``$TMPDIR`` nothing changes."""
    assert used(tmp_path, TMPDIR=str(tmp_path)) == ["None", str(tmp_path), str(tmp_path)]


def test_a_memory_that_is_too_small_is_left_alone(tmp_path: Path) -> None:
    """Tests that fill it would fail for that."""
    assert used(tmp_path, 2**60)[:2] == ["None", "None"]
    assert used(tmp_path / "missing")[:2] == ["None", "None"]


def test_folders_of_runs_that_were_killed_are_removed(tmp_path: Path) -> None:
    """Those of runs that are still there stay."""
    ours, dead = tmp_path / f"rambla-{os.getpid()}", tmp_path / "rambla-999999999"
    ours.mkdir()
    (dead / "data").mkdir(parents=True)
    used(tmp_path)
    assert ours.exists()
    assert not dead.exists()
