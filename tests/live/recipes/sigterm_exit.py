"""SIGTERM, and the application's handler calls ``sys.exit``."""

import os
import signal
import sys

from _witness import publish, started

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
app = started()
publish(app)
os.kill(os.getpid(), signal.SIGTERM)
