"""Celery's prefork pool; the children end without ``stop()``."""

from _celery import prefork

prefork("_tasks", rate="1/s")
