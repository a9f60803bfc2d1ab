"""A handler for rambla_py, found by its entry point as ``collector``."""

from rambla_collector.handler import CollectorHandler

__all__ = ["CollectorHandler"]
