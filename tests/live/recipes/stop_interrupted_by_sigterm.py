"""SIGTERM comes while ``stop()`` waits, and its handler calls ``sys.exit()``."""

import signal
import sys

from _witness import interrupt_soon, publish, started

app = started(rate="20/s")
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
publish(app)
interrupt_soon(signal.SIGTERM)
app.stop(timeout_s=60)
