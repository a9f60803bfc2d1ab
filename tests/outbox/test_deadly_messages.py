"""Messages that kill the process which attempts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from outboxes import account

PROGRAM = Path(__file__).with_name("killing_program.py")
SUPPORT = PROGRAM.parents[1] / "support"


def run(folder: Path, on_unknown: str, *messages: str) -> int:
    """Run the program to its end, and return its exit code."""
    command = [sys.executable, str(PROGRAM), str(folder), on_unknown, *messages]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def attempts(folder: Path) -> list[str]:
    return (folder / "attempts").read_text().splitlines()


def test_a_message_that_kills_its_process_becomes_a_dead_letter(tmp_path: Path) -> None:
    """After two deaths it goes alone, and each further one spends an attempt; what waits with it is delivered."""
    deaths, messages = 0, ("kill", "next")
    while run(tmp_path, "retry", *messages) == -signal.SIGKILL:
        deaths, messages = deaths + 1, ()
        assert deaths < 10
    assert deaths == attempts(tmp_path).count("kill")
    found = account(tmp_path)
    assert (found.ok, found.fatal, found.dead, found.pending) == (1, 1, 1, 0)
    assert deaths == 5  # two with others, and three attempts of its own: retries = 2


def test_with_report_an_attempt_that_ended_with_its_process_is_unknown(tmp_path: Path) -> None:
    """Its start is stored before it is made, so that it is not made again: at most once."""
    assert run(tmp_path, "report", "kill") == -signal.SIGKILL
    assert run(tmp_path, "report", "next") == 0
    assert attempts(tmp_path) == ["kill", "next"]
    found = account(tmp_path)
    assert (found.ok, found.unknown, found.pending) == (1, 1, 0)
