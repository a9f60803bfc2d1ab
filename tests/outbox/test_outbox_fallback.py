"""A fallback that has not delivered yet when the app stops."""

from __future__ import annotations

import threading
from pathlib import Path

from outboxes import Backend, account, running, table_of
from waiting import wait_until

from rambla_py import Rambla


def test_what_a_fallback_could_not_deliver_before_the_stop_is_kept(tmp_path: Path) -> None:
    """It has expired, and its fallback is not durable: the next run expires it again, and hands it over."""
    backend, spare = Backend(), Backend()
    table = table_of(
        tmp_path,
        backend.handler(),
        fallback="spare",
        fallback_on=["expired"],
        options={"expires_s": 0.05},
    )
    table["other"] = {
        "handler": spare.handler(),
        "connections": {"default": {}},
        "channels": {"spare": {"connection": "default"}},
    }
    backend.gate.clear()
    spare.gate.clear()
    app = Rambla(table).start()
    app.publish_many("orders", ["in flight", "waits"])
    wait_until(lambda: app.audit()["other.spare"].accepted == 1)
    threading.Timer(0.3, backend.gate.set).start()
    app.stop(0.0)
    threading.Timer(0.0, spare.gate.set).start()
    later = Backend()
    table["other"]["handler"] = later.handler()
    with running(table):
        wait_until(lambda: "waits" in later.received)
    assert account(tmp_path).pending == 0
