"""SIGKILL while another process delivers from the same outbox: it takes over."""

import os
import signal
import sys

from _witness import MANY, await_delivered, publish, started

child = os.fork()
if not child:
    app = started(rate="10/s", durable=True)
    publish(app)
    await_delivered(10)
    os.kill(os.getpid(), signal.SIGKILL)
app = started(durable=True)
publish(app, 1)
os.waitpid(child, 0)
await_delivered(MANY + 1)
app.stop()
sys.exit()
