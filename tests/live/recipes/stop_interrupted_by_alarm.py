"""An alarm raises in ``stop()``; the program goes on, and ends."""

import contextlib
import signal

from _witness import interrupt_soon, publish, started


def late(number: int, frame: object) -> None:
    raise TimeoutError


app = started(rate="20/s")
publish(app)
signal.signal(signal.SIGALRM, late)
interrupt_soon(signal.SIGALRM)
with contextlib.suppress(TimeoutError):
    app.stop(timeout_s=60)
