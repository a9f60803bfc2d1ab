"""A Celery application that starts its app where it is imported."""

from __future__ import annotations

import os

from _celery import broker
from _witness import publish, started

celery = broker()
app = started(rate=os.environ["RECIPE_RATE"])


@celery.task(name="run")
def run() -> None:
    """Publish six messages."""
    publish(app, 6)
