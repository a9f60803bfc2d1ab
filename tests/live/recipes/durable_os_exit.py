"""``os._exit`` ends the process without any exit hook."""

import os

from _witness import await_delivered, publish, started

app = started(rate="10/s", durable=True)
publish(app)
await_delivered(10)
os._exit(3)
