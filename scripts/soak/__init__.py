"""Breaks the outbox for a long time: ``make soak``."""
