"""Analytics of what a server does, on any channel."""

from __future__ import annotations

from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.middleware import AsgiMiddleware, WsgiMiddleware, instrument_flask
from rambla_py.analytics.tables import TABLES

__all__ = ["TABLES", "AnalyticsError", "AsgiMiddleware", "WsgiMiddleware", "instrument_flask"]
