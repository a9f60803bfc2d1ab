"""A forked child publishes, and ends by ``os._exit``; its parent takes over."""

import os

from _witness import MANY, await_delivered, publish, started

app = started(durable=True)
child = os.fork()
if not child:
    publish(app)
    os._exit(0)
os.waitpid(child, 0)
await_delivered(MANY)
