"""Celery's prefork pool; ``worker_process_shutdown`` calls ``app.stop()``."""

from _celery import prefork

prefork("_tasks_stop", rate="40/s")
