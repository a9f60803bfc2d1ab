"""gunicorn's gthread workers: several threads in each process publish."""

from _servers import gunicorn

gunicorn("--worker-class", "gthread", "--threads", "4")
