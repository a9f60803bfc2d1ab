"""Ctrl-C ends the program, and a second one comes while ``stop()`` waits."""

import signal

from _witness import interrupt_soon, publish, started

app = started(rate="20/s")
publish(app)
try:
    raise KeyboardInterrupt
finally:
    interrupt_soon(signal.SIGINT)
    app.stop(timeout_s=60)
