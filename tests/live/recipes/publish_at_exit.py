"""An exit hook of the application publishes."""

import atexit

from _witness import publish, started

app = started()
atexit.register(lambda: publish(app))
