"""Processes with an outbox that are started within milliseconds, to be killed: see ``outbox_victim``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import outbox_victim

from rambla_py.testing.processes import deadline


class Nursery:
    """A program that forks a process for each order, with ``modules`` loaded before."""

    def __init__(self, *modules: str) -> None:
        support = str(Path(outbox_victim.__file__).parent)
        self._program = subprocess.Popen(
            [sys.executable, outbox_victim.__file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([support, os.environ.get("PYTHONPATH", "")])},
            text=True,
        )

    def start(self, run: str, folder: Path, **arguments: Any) -> int:
        """Start a process; return its number."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps({"run": run, "folder": str(folder), **arguments}) + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())

    def run(self, run: str, folder: Path, **arguments: Any) -> None:
        """Start a process, and wait for its end."""
        wait_for_end(self.start(run, folder, **arguments))

    def close(self) -> None:
        self._program.communicate()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid: int) -> None:
    assert any(not alive(pid) for _ in deadline(60, poll_s=0.005)), "it does not end"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
