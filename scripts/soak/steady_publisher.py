"""The publishing process of the steady soak: 500 messages/s to three targets, until SIGTERM.

Arguments: the configuration as JSON. At the end it prints how many messages it has published, how many of
these are to fail, and the accounts of each target, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from typing import Any

import msgspec

from rambla_py import Rambla

PER_S = 500
_STEP_S = 0.01
FAILS_EVERY = 100
FAILING: dict[str, Any] = {"routing_key": "nowhere", "list": "no-list"}
"""Options with which RabbitMQ and Redis refuse a message; PostgreSQL refuses one without an id."""


def main(config: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    app = Rambla(json.loads(config)).start()
    published, began = 0, time.monotonic()
    while not stop.wait(_STEP_S):
        while published < (time.monotonic() - began) * PER_S:
            fails = published % FAILS_EVERY == FAILS_EVERY - 1
            payload = {"id": None if fails else published, "text": "x" * 200}
            app.publish("orders", payload, **(FAILING if fails else {}))
            published += 1
    took_s = time.monotonic() - began
    whole = app.flush(timeout_s=120)
    audits = {
        name: {**msgspec.to_builtins(audit), "balanced": audit.balanced}
        for name, audit in app.audit().items()
    }
    app.stop(timeout_s=10)
    report = {"published": published, "failing": published // FAILS_EVERY, "per_s": published / took_s}
    print(json.dumps({**report, "flushed": whole, "audits": audits}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
