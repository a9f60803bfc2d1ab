"""``stop()`` is given a time that is none."""

from _witness import publish, started

app = started()
publish(app)
app.stop(timeout_s="soon")
