"""Middleware that tracks the requests of a server, for ASGI and WSGI; it imports no framework."""

from __future__ import annotations

from rambla_py.analytics.middleware.asgi import AsgiMiddleware
from rambla_py.analytics.middleware.flask import instrument_flask
from rambla_py.analytics.middleware.wsgi import WsgiMiddleware

__all__ = ["AsgiMiddleware", "WsgiMiddleware", "instrument_flask"]
