"""The block of ``with`` ends: ``stop()`` delivers what waits."""

from _witness import publish, started

with started() as app:
    publish(app)
