"""gunicorn's sync workers, each importing the application by itself."""

from _servers import gunicorn

gunicorn("--worker-class", "sync")
