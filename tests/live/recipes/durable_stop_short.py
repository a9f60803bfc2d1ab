"""``stop(timeout_s)`` with less time than the messages need."""

from _witness import await_delivered, publish, started

app = started(rate="10/s", durable=True)
publish(app)
await_delivered(10)
app.stop(timeout_s=0.3)
