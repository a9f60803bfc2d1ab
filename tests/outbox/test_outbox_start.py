"""Starts of apps whose outbox has many messages."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

from outboxes import NAME, running, table_of

from rambla_py import Handler


def test_a_start_does_not_wait_for_what_is_stored(tmp_path: Path) -> None:
    """It reads the first rows; the others are read while the app runs, and it takes new ones in between."""
    came = Event()

    class Counting(Handler):
        def handle_batch(self, messages: Any, state: Any) -> list[None]:
            if any(message.payload == -1 for message in messages):
                came.set()
            return [None] * len(messages)

    number = 15_000
    with running(table_of(tmp_path, Counting, {"deliver": False})) as app:
        app.publish_many("orders", range(number))
    with running(table_of(tmp_path, Counting)) as app:
        assert app.audit()[NAME].accepted < number / 2
        app.publish("orders", -1)
        assert came.wait(20)
        assert app.flush(20)
        assert app.audit()[NAME].ok == number + 1
