"""Gunicorn's configuration. It imports nothing of ours: gevent has to patch first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def post_worker_init(worker: Any) -> None:
    """Note that a worker is up: gunicorn forgets SIGTERM for a gevent worker that still boots."""
    Path(os.environ["RECIPE_FOLDER"], f"booted-{worker.pid}").touch()
