"""The program ends without ``stop()``, and ``exit_timeout_s`` is too short."""

from _witness import await_delivered, publish, started

app = started(rate="10/s", exit_timeout_s=0.3, durable=True)
publish(app)
await_delivered(10)
