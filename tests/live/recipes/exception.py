"""An exception that nobody catches ends the main thread."""

from _witness import publish, started

app = started()
publish(app)
raise ValueError("nobody catches this")
