"""Stops of apps with durable channels whose backends are away."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import Rambla, UnavailableError


class Away(Backend):
    """A backend that refuses connections until ``back`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.back = threading.Event()

    def connect(self) -> None:
        if not self.back.is_set():
            raise ConnectionRefusedError("nothing listens")


def refusing_connections(backend: Away) -> Any:
    return backend.handler(connect=lambda handler: backend.connect())


def unavailable(backend: Away) -> Any:
    backend.answers = [UnavailableError("read-only") for _ in range(1_000)]
    return backend.handler()


@pytest.mark.parametrize("handler", [refusing_connections, unavailable])
def test_a_stop_does_not_wait_for_a_backend_that_is_away(tmp_path: Path, handler: Any) -> None:
    """What waits, in memory or on the disk only, stays in the outbox, and the next run delivers it in order."""
    app = Rambla(table_of(tmp_path, handler(Away()), max_pending=5)).start()
    for at in range(20):
        app.publish("orders", at)
    wait_until(lambda: app.status()[NAME].last_error is not None)
    began = time.monotonic()
    audit = app.stop(60)[NAME]
    assert time.monotonic() - began < 10
    assert (audit.accepted, audit.dropped, audit.unknown, audit.pending) == (20, 0, 0, 20)
    later = Backend()
    with running(table_of(tmp_path, later.handler())) as app:
        assert app.flush(20)
    assert later.received == list(range(20))
    assert account(tmp_path).pending == 0


def test_a_stop_delivers_to_a_backend_that_comes_back(tmp_path: Path) -> None:
    """It is tried once more, at least, before its messages are left."""
    backend = Away()
    app = Rambla(table_of(tmp_path, refusing_connections(backend))).start()
    app.publish_many("orders", range(20))
    wait_until(lambda: app.status()[NAME].last_error is not None)
    backend.back.set()
    assert app.stop(60)[NAME].ok == 20


def test_a_stop_waits_for_the_other_channels(tmp_path: Path) -> None:
    """One that is not durable has all of the time; the durable one is left meanwhile."""
    backend, slow = Away(), Backend()
    slow.gate.clear()
    table = table_of(tmp_path, refusing_connections(backend))
    table["other"] = {
        "handler": slow.handler(),
        "connections": {"default": {}},
        "channels": {"slow": {"connection": "default"}},
    }
    app = Rambla(table).start()
    app.publish("orders", 1)
    app.publish("slow", 2)
    wait_until(lambda: app.status()[NAME].last_error is not None)

    def open_once_left() -> None:
        wait_until(lambda: app.status()[NAME].state == "closed")
        slow.gate.set()

    opening = threading.Thread(target=open_once_left)
    opening.start()
    audit = app.stop(60)
    opening.join()
    assert (audit[NAME].pending, audit["other.slow"].ok) == (1, 1)
