"""``stop()`` has enough time."""

from _witness import publish, started

app = started(durable=True)
publish(app)
app.stop(timeout_s=20)
