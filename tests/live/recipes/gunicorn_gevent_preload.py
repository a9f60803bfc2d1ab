"""gunicorn's gevent workers with ``--preload``: the application is imported before the patch."""

from _servers import gunicorn

gunicorn("--worker-class", "gevent", "--preload")
