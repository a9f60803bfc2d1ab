"""A forked child publishes and lives on; its parent is killed, and the child takes over."""

import os
import signal
import sys

from _witness import MANY, await_delivered, publish, started

ended, held = os.pipe()
if os.fork():
    os.close(held)
    os.read(ended, 1)  # returns when the last process that holds the other end has ended
    sys.exit()
app = started(rate="20/s", durable=True)
publish(app)
await_delivered(20)
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
publish(app, 1)
await_delivered(MANY + 1)
