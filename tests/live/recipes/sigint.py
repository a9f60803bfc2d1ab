"""Ctrl-C: SIGINT raises ``KeyboardInterrupt`` in the main thread, and nobody catches it."""

import os
import signal

from _witness import publish, started

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may have it ignored
app = started()
publish(app)
os.kill(os.getpid(), signal.SIGINT)
