"""The handler fulfils the contract, on a real collector behind a fault proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from collector import TOKEN, Collector

import rambla_py as rambla
from rambla_py.testing import CANARY, FaultProxy, HandlerContract, Received


class TestCollector(HandlerContract):
    """By its name: the entry point leads to it."""

    handler = "collector"
    carries_events = True

    @pytest.fixture(autouse=True)
    def _collector(self, rambla_faults: Callable[..., FaultProxy]) -> Iterator[None]:
        with Collector() as self.collector:
            self.proxy = rambla_faults(self.collector.host, self.collector.port)
            yield

    def connection(self) -> dict[str, Any]:
        return {**self.at(*self.proxy.address), "token": TOKEN, "timeout_s": 5.0}

    def received(self) -> list[Received]:
        return [Received(row.body, row.id) for row in self.collector.rows]

    def poison(self) -> rambla.Message:
        return rambla.Message("poison", topic="forbidden")

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_bytes": 1_000}, "x" * 1_001

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"host": host, "port": port, "timeout_s": 0.5}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "token": CANARY}

    def wrong_password(self) -> dict[str, Any]:
        return self.secret_at(*self.proxy.address)

    def cut(self) -> None:
        self.proxy.cut_after(300, direction="down")  # written, and the answer lost
        self.proxy.cut_after(20_000)  # and in the midst of a write

    def cuts(self) -> int:
        return self.proxy.cuts

    def hang_up(self) -> None:
        self.proxy.reset()

    def impatient(self) -> dict[str, Any]:
        return {**self.connection(), "timeout_s": 0.5}

    def silence(self) -> None:
        self.proxy.black_hole()

    def die(self) -> None:
        self.proxy.cut_after(300, direction="down", then=self.collector.crash)

    def deaths(self) -> int:
        return self.collector.crashes


COLLECTOR = {
    "collector": {
        "connections": {"main": {"host": "collector.internal", "token": TOKEN}},
        "channels": {"events": {"options": {"topic": "shop"}}},
    }
}


@pytest.mark.rambla_config(COLLECTOR)
def test_an_application_is_tested_without_a_collector(rambla: rambla.Rambla, rambla_capture: Any) -> None:
    """With the fixtures of the plugin, nothing listens anywhere, and the options are still checked."""
    rambla.publish("events", {"id": 42}).result(timeout_s=5)
    (event,) = rambla_capture["events"]
    assert (event.payload, event.options.topic) == ({"id": 42}, "shop")
