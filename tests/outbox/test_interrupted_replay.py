"""A replay after a publish that was interrupted: what its commit has stored is delivered, and first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interruptions import Point, every_point, interrupted_at
from outboxes import Backend, account, running, table_of
from waiting import wait_until


def _interrupt() -> Any:
    raise KeyboardInterrupt


def test_a_replay_delivers_what_an_interrupted_commit_has_stored(tmp_path: Path) -> None:
    """The publish raised, and nothing else wakes the outbox; each stored message is delivered once."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), {"poll_s": 1_000.0})) as app:
        outbox = app.outbox.running
        assert outbox is not None

        def publish(number: int) -> Point:
            files = ("outbox/outbox.py", "outbox/placement.py")
            try:
                with interrupted_at(number * 2, files, _interrupt) as point:
                    app.publish("orders", number)
            except KeyboardInterrupt:
                pass
            outbox.deliver_stored(lambda share: ())
            wait_until(lambda: account(tmp_path).pending == 0)
            return point

        assert every_point(publish) > 5
        assert len(backend.received) == len(set(backend.received)) == account(tmp_path).ok
