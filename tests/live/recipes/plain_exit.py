"""The program ends without ``stop()``."""

from _witness import publish, started

app = started()
publish(app)
