"""Observers, events and log records of an app."""

from rambla_py.telemetry.events import Event
from rambla_py.telemetry.observer import ConnectionState, ObservedTarget, Observer

__all__ = ["ConnectionState", "Event", "ObservedTarget", "Observer"]
