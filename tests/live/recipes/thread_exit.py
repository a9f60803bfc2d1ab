"""A thread that is no daemon publishes after the main thread has ended, and leaves by ``sys.exit``."""

import sys
import threading

from _witness import publish, started

app = started()


def run() -> None:
    threading.main_thread().join(20)
    publish(app)
    sys.exit(3)  # ends this thread only


threading.Thread(target=run).start()
