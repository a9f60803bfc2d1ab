"""The program ends without ``stop()``, and the messages need longer than ``exit_timeout_s``."""

from _witness import await_delivered, publish, started

app = started(rate="10/s", exit_timeout_s=0.3)
publish(app)
await_delivered(10)
