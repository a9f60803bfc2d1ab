"""SIGTERM, and the application's handler calls ``app.stop()``."""

import os
import signal

from _witness import publish, started

app = started()
signal.signal(signal.SIGTERM, lambda number, frame: app.stop())
publish(app)[-1].add_done_callback(lambda receipt: None)
os.kill(os.getpid(), signal.SIGTERM)
