"""The next start of a durable program: it delivers what the last one left, and publishes nothing."""

from _witness import started

app = started(rate="1000/s", durable=True)
assert app.flush(timeout_s=20)
app.stop()
