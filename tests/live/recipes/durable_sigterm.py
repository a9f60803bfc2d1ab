"""SIGTERM, and the application has no handler for it."""

import os
import signal

from _witness import await_delivered, publish, started

app = started(rate="10/s", durable=True)
publish(app)
await_delivered(10)
os.kill(os.getpid(), signal.SIGTERM)
