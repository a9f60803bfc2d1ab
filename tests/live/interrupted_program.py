"""A program that publishes, is interrupted while it stops, and ends: ``CASE FIRST_S AGAIN_S``.

The interruption comes ``FIRST_S`` seconds after the stop began, and again every ``AGAIN_S`` (0: once).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent / "recipes"))
from _witness import publish, started

MANY = 2_000


def leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("the alarm")


def main(case: str, first_s: float, again_s: float) -> None:
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


main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
