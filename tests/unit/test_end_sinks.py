"""The chain that a delivery passes at an end other than ok."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from deliveries import make_delivery

from rambla_py.runtime.target.end_sinks import EndSinks


def test_a_delivery_passes_every_sink_in_order_and_then_ends() -> None:
    """A sink that proceeds later holds up those behind it, and the end."""
    seen: list[str] = []
    held: list[Callable[[], None]] = []

    def hold(delivery: Any, proceed: Callable[[], None]) -> None:
        seen.append("holds")
        held.append(proceed)

    def note(delivery: Any, proceed: Callable[[], None]) -> None:
        seen.append("notes")
        proceed()

    sinks = EndSinks()
    for sink in (note, hold, note):
        sinks.add(sink)
    sinks.take(make_delivery(), lambda: seen.append("ends"))
    assert seen == ["notes", "holds"]
    held.pop()()
    assert seen == ["notes", "holds", "notes", "ends"]


def test_without_sinks_it_ends_at_once() -> None:
    """An empty chain is passed at once."""
    ends: list[None] = []
    EndSinks().take(make_delivery(), lambda: ends.append(None))
    assert ends == [None]


@pytest.mark.parametrize("times", [1, 2])
def test_a_sink_that_raises_is_passed_over_and_a_second_call_ignored(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a sink does, the delivery ends once."""
    caplog.set_level(logging.CRITICAL, "rambla_py.delivery")
    ends: list[None] = []

    def faulty(delivery: Any, proceed: Callable[[], None]) -> None:
        for _ in range(times - 1):
            proceed()
        raise ValueError("no")

    def eager(delivery: Any, proceed: Callable[[], None]) -> None:
        for _ in range(times):
            proceed()

    sinks = EndSinks()
    sinks.add(faulty)
    sinks.add(eager)
    sinks.take(make_delivery(), lambda: ends.append(None))
    assert ends == [None]
