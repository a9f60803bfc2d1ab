"""``sys.exit`` in the main thread."""

import sys

from _witness import publish, started

app = started()
publish(app)
sys.exit(3)
