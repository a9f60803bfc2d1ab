"""SIGKILL while four threads publish: each ``publish`` that returned counts."""

import os
import signal
import threading

from _witness import FOLDER, await_delivered, deadline, publish, started

app = started(rate="10/s", durable=True)
for _ in range(4):
    threading.Thread(target=publish, args=(app, 10_000), daemon=True).start()
await_delivered(10)
for _ in deadline(20.0, poll_s=0.01):
    if (FOLDER / "accepted").read_text().count("\n") >= 200:
        break
os.kill(os.getpid(), signal.SIGKILL)
