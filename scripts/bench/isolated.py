"""This module runs one contender in a process of its own, so that none leaves anything to the next."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from bench.case import Context, Figures

__all__ = ["run_alone"]

LIMIT_S = 300.0


def run_alone(case: str, contender: str, context: Context) -> tuple[Figures | None, str]:
    """Return its figures, or None and the last line of what it said."""
    argv = [
        *(sys.executable, "-m", "bench"),
        *("--alone", case, contender, msgspec.json.encode(context).decode()),
    ]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"took longer than {LIMIT_S:g} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode or not lines:
        return None, lines[-1] if lines else f"exit code {done.returncode}"
    return msgspec.json.decode(lines[-1], type=Figures), ""
