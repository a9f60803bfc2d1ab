"""gunicorn, one of whose two workers is killed; the other one, or its replacement, takes over."""

import os
import signal

from _servers import gunicorn
from _witness import FOLDER, await_delivered

REQUESTS, EACH = 20, 6


def kill_a_worker() -> None:
    """Kill the worker that started first, and wait until its messages are delivered."""
    worker = min(int(path.name.partition("-")[2]) for path in FOLDER.glob("booted-*"))
    os.kill(worker, signal.SIGKILL)
    await_delivered(REQUESTS * EACH)


os.environ["RECIPE_DURABLE"] = "1"
gunicorn("--worker-class", "sync", after=kill_a_worker)
