"""gunicorn's gevent workers, monkey-patched before the application is imported."""

from _servers import gunicorn

gunicorn("--worker-class", "gevent")
