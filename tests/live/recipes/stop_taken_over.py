"""SIGTERM comes while ``stop()`` waits, and its handler calls ``stop()`` with a shorter time."""

import signal

from _witness import interrupt_soon, publish, started

app = started(rate="1/s")
signal.signal(signal.SIGTERM, lambda number, frame: app.stop(timeout_s=1))
publish(app)
interrupt_soon(signal.SIGTERM)
app.stop(timeout_s=60)
