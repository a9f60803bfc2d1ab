"""A program that forks processes, one after the other; each publishes, is interrupted while it stops, and ends.

Arguments: the case, and as JSON for each process a folder, ``first_s`` and ``again_s``. The interruption comes
``first_s`` seconds after the stop began, and again every ``again_s`` (0: once). The process writes its log to the
file ``log`` of its folder. The exit codes are printed as JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent / "recipes"))
import _witness
from _witness import publish, started

MANY = 2_000


def leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("the alarm")


def run(case: str, first_s: float, again_s: float) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
    app = started(rate="1500/s", exit_timeout_s=0.5, batch_size=20)
    publish(app, MANY)
    handler = {"ctrl_c": signal.default_int_handler, "alarm": late}.get(case, leave)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, first_s, again_s)
    if case == "ctrl_c":
        try:
            raise KeyboardInterrupt
        finally:
            app.stop()
    elif case == "bad_timeout":
        app.stop(timeout_s="soon")  # type: ignore[arg-type]  # the mistake
    elif case == "alarm":
        with contextlib.suppress(TimeoutError):
            app.stop()
    else:
        app.stop()


def become(folder: Path) -> None:
    """Work in a folder, and log to a file there."""
    _witness.FOLDER = folder
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)


gc.freeze()
codes = []
for folder, first_s, again_s in json.loads(sys.argv[2]):
    if (pid := os.fork()) == 0:
        become(Path(folder))
        run(sys.argv[1], first_s, again_s)
        sys.exit()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
