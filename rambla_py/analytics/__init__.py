"""Analytics of what a server does, on any channel."""

from __future__ import annotations

from rambla_py.analytics.account import TrackerAudit
from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.middleware import AsgiMiddleware, WsgiMiddleware, instrument_flask
from rambla_py.analytics.settings import AnalyticsSettings
from rambla_py.analytics.tables import TABLES
from rambla_py.analytics.tracker import Tracker

__all__ = [
    "TABLES",
    "AnalyticsError",
    "AnalyticsSettings",
    "AsgiMiddleware",
    "Tracker",
    "TrackerAudit",
    "WsgiMiddleware",
    "instrument_flask",
]
