"""Delivery of events to Jitsu."""

from rambla_py.handlers.jitsu.handler import JitsuHandler

__all__ = ["JitsuHandler"]
