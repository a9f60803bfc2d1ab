"""A callback calls ``stop()``, and the program ends while it is at work."""

import threading

from _witness import publish, started

app, called = started(), threading.Event()


def stop(receipt: object) -> None:
    app.stop()
    called.set()


publish(app)[0].add_done_callback(stop)
called.wait(20)
