"""Finalizers publish whenever the garbage collector runs, whatever the app is doing."""

import gc

from _witness import MANY, deadline, publish, publish_one, started

app = started(rate="1000/s")
made = 0
busy = False


class Garbage:
    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        global made, busy
        if not busy:
            busy = True
            made += 1
            publish_one(app)
            app.publish("orders", {"id": "ignored"}, delay_s=200)
            app.audit()
            busy = False


gc.set_threshold(1)  # a collection in nearly every allocation, under every lock that allocates
for _ in deadline(2.0, poll_s=0.0):
    Garbage()
    app.publish("orders", {"id": "ignored"}, delay_s=200)
    publish_one(app).outcomes(timeout_s=20)
    app.audit()
gc.set_threshold(700)
assert made > MANY
publish(app)
