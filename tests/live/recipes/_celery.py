"""A Celery worker with a prefork pool, ended with SIGTERM when its tasks are done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from celery import Celery

from rambla_py.testing.processes import deadline

TASKS, EACH = 10, 6
_FOLDER = Path(os.environ["RECIPE_FOLDER"])


def broker() -> Celery:
    """Return a Celery application whose broker is a folder."""
    messages = _FOLDER / "messages"
    messages.mkdir(exist_ok=True)
    celery = Celery("recipes", broker="filesystem://")
    folders = ("data_folder_in", "data_folder_out", "control_folder")
    celery.conf.broker_transport_options = dict.fromkeys(folders, str(messages))
    return celery


def prefork(module: str, rate: str) -> None:
    """Run the tasks in two children; each publishes some messages."""
    command = [sys.executable, "-m", "celery", "--app", f"{module}:celery", "worker", "--pool", "prefork"]
    flags = ["--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, "RECIPE_RATE": rate, "C_FORCE_ROOT": "1"}
    celery = broker()
    for _ in range(TASKS):
        celery.send_task("run")
    worker = subprocess.Popen([*command, *flags], cwd=Path(__file__).parent, env=environment)
    try:
        _await_accepted(TASKS * EACH)
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def _await_accepted(count: int) -> None:
    accepted = _FOLDER / "accepted"
    for _ in deadline(30.0):
        if accepted.exists() and accepted.read_text().count("\n") >= count:
            return
    raise TimeoutError(f"the tasks did not accept {count} messages")
