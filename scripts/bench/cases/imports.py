"""Cases of starting: imports, and the help of the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from bench.case import Case, Context, Figures, Goal

__all__ = ["HELP", "IMPORTS"]


def _takes(*argv: str) -> Callable[[Context], Figures]:
    """Return the best of seven runs in milliseconds, less those of an interpreter that does nothing."""

    def run(_: Context) -> Figures:
        return {"ms": _best(argv) - _best(("-c", "pass"))}

    return run


def _best(argv: tuple[str, ...]) -> float:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


IMPORTS = Case(
    name="import",
    title="import, in milliseconds on top of the interpreter's own start",
    contenders={
        "import rambla_py": _takes("-c", "import rambla_py"),
        "from rambla_py import Rambla": _takes("-c", "from rambla_py import Rambla"),
        "import pika": _takes("-c", "import pika"),
    },
    goals=(Goal("import (at most 0.18)", "import rambla_py", "import pika", figure="ms", most=0.18),),
)

HELP = Case(
    name="help",
    title="rambla --help, in milliseconds on top of the interpreter's own start",
    contenders={
        "rambla --help": _takes("-m", "rambla_py", "--help"),
        "import typer": _takes("-c", "import typer"),
    },
    goals=(
        Goal(
            "rambla --help / import typer (at most 1.19)",
            "rambla --help",
            "import typer",
            figure="ms",
            most=1.19,
        ),
    ),
)
