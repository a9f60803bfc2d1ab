"""The same Celery application, with the app stopped when a child of the pool ends."""

from __future__ import annotations

from typing import Any

from _tasks import app, celery
from celery.signals import worker_process_shutdown

__all__ = ["celery"]


@worker_process_shutdown.connect
def stop(**_: Any) -> None:
    """Deliver what waits in this child."""
    app.stop(timeout_s=20)
