"""A signal handler publishes, again and again, whatever the main thread is doing with the app."""

import itertools
import signal

from _witness import MANY, deadline, publish, publish_one, started

app = started(rate="1000/s")
runs = itertools.count()
busy = False


def run(number: int, frame: object) -> None:
    global busy
    if not busy:
        busy = True
        next(runs)
        publish_one(app)
        app.publish("orders", {"id": "ignored"}, delay_s=200)
        app.audit()
        busy = False


signal.signal(signal.SIGALRM, run)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
for _ in deadline(2.0, poll_s=0.0):
    receipt = publish_one(app)
    app.publish("orders", {"id": "ignored"}, delay_s=200)
    receipt.outcomes(timeout_s=20)
    app.audit()
signal.setitimer(signal.ITIMER_REAL, 0)
assert next(runs) > MANY
publish(app)
