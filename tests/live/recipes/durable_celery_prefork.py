"""Celery's prefork pool; the children end without ``stop()``."""

import os

from _celery import prefork

os.environ["RECIPE_DURABLE"] = "1"
prefork("_tasks", rate="1/s")
