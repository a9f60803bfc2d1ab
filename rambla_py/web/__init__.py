"""ASGI applications of an app, to mount in a server of your own."""

from rambla_py.web.health import health_app

__all__ = ["health_app"]
