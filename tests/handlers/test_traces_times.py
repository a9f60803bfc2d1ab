"""Times of spans that are made after the fact."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from small_apps import one, probe, running, table
from traced import Spans

from rambla_py import Observer, PermanentError

LATE_S = 0.05


class Late(Observer):
    """Holds up the observers after it, and records the times of what it saw."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._pause = threading.Event()

    def attempted(
        self, target: Any, deliveries: Sequence[Any], started_at: float, ended_at: float, error: Any
    ) -> None:
        """Record beginning and end of the attempt."""
        self.times += started_at, ended_at
        self._pause.wait(LATE_S)

    def ended(self, target: Any, deliveries: Sequence[Any], status: str) -> None:
        """Record acceptance and end of the delivery."""
        self.times += deliveries[0].accepted_at, deliveries[0].ended_at
        self._pause.wait(LATE_S)


def refuse(self: Any, messages: Any, state: Any) -> Any:
    raise PermanentError("no")


def test_spans_have_the_times_of_what_they_show() -> None:
    """Not of the call that makes them, which comes after other observers."""
    spans, late = Spans(), Late()
    with running(table(probe(handle_batch=refuse))) as app:
        app.observe(late)
        with spans.of(app), spans.caller():
            assert one(app).status == "fatal"
            (send,), (lost,) = spans.named("send orders"), spans.named("not delivered orders")
    offset = time.time() - time.monotonic()
    shown = [send.start_time, send.end_time, lost.start_time, lost.end_time]
    for at_ns, at in zip(shown, late.times, strict=True):
        assert abs(at_ns / 1e9 - (at + offset)) < LATE_S / 2
