"""Ctrl-C comes while the exit hook delivers."""

import signal
import threading

from _witness import interrupt_soon, publish, started

# A program that a shell started in the background ignores SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
app = started(rate="1/s", exit_timeout_s=60)
publish(app)
threading._register_atexit(lambda: interrupt_soon(signal.SIGINT))
