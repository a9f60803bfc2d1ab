"""gunicorn's sync workers, forked from a master that has imported the application (``--preload``)."""

from _servers import gunicorn

gunicorn("--worker-class", "sync", "--preload")
