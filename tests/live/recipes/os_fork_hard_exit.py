"""A forked child publishes, and ends by ``os._exit``."""

import os

from _witness import await_delivered, publish, started

app = started(rate="10/s")
child = os.fork()
if not child:
    publish(app)
    await_delivered(10)
    os._exit(0)
os.waitpid(child, 0)
