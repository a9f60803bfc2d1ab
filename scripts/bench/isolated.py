"""One contender in a process of its own, so that none leaves anything to the next."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.case import Context, Figures

__all__ = ["run_alone"]

LIMIT_S = 300.0


@functools.cache
def _slow_disk() -> str:
    """Compile the library that makes syncs slower, and return its path."""
    library = Path(tempfile.mkdtemp(prefix="rambla-bench-")) / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return str(library)


def run_alone(
    case: str, contender: str, context: Context, *, slow_disk: bool = False, base: Path | None = None
) -> tuple[Figures | None, str]:
    """Return its figures, or None and the last line of what it said; ``base``: the checkout to measure."""
    environment = dict(os.environ)
    if slow_disk:
        environment["LD_PRELOAD"] = _slow_disk()
    if base is not None:
        environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}{os.pathsep}{base}".strip(os.pathsep)
    argv = [
        *(sys.executable, "-m", "bench"),
        *("--alone", case, contender, msgspec.json.encode(context).decode()),
    ]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return None, f"took longer than {LIMIT_S:g} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode or not lines:
        return None, lines[-1] if lines else f"exit code {done.returncode}"
    return msgspec.json.decode(lines[-1], type=Figures), ""
