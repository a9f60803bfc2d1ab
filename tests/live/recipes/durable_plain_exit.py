"""The program ends without ``stop()``, and has enough time."""

from _witness import publish, started

app = started(durable=True)
publish(app)
