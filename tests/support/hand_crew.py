"""The workers of a target, played by a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rambla_py import (
    Handler,
)
from rambla_py.delivery import Delivery
from rambla_py.runtime.delivery.retrying import ResultProcessor
from rambla_py.runtime.target.in_flight import InFlight
from rambla_py.runtime.target.target import Target

WORKERS = 2


class Probe(Handler):
    """A handler that is never called: the test answers in its place."""

    def handle_publish(self, message: Delivery, options: Any, state: Any) -> None:
        raise AssertionError("nobody calls it")


class HandCrew:
    """The workers of a target, as the test plays them."""

    def __init__(self, target: Target, verdict: Callable[[], Any]) -> None:
        self.target, self.verdict = target, verdict
        self.judge = ResultProcessor(target, Probe({}), lambda answer: answer, lambda: 0.5)
        self.seats = [InFlight(target.settlements, lambda: None) for _ in range(WORKERS + 1)]

    def sessions(self) -> list[InFlight]:
        return self.seats

    def states(self) -> list[str]:
        return ["up"] * WORKERS

    def turned_at(self, now: float) -> float | None:
        return None

    def pending_callbacks(self) -> int:
        return self.judge.pending_callbacks

    def try_suspects(self) -> None:
        """The test takes them when it likes."""

    def take_pending_callbacks(self) -> list[tuple[Delivery, Any]]:
        return self.judge.take_pending()

    def check_workers(self, now: float) -> None:
        """There is no thread that could hang."""

    def wake_workers(self, worker: int | None = None) -> None:
        """Do nothing: no worker sleeps."""

    def reconnect(self, worker: int, error: BaseException) -> None:
        """Lose a connection as a worker does: what was in flight is answered, and a new session begins."""
        session = self.seats[worker]
        session.lose(error)
        self.seats[worker] = InFlight(self.target.settlements, lambda: None)
        left = session.abandon(30.0, error)
        self.target.settlements.results.extend((None, *pair) for pair in reversed(left))

    def answer_all(self) -> None:
        """Judge what was answered, and run the callbacks that follow."""
        settlements = self.target.settlements
        while settlements.waiting:
            self.target.completion.succeed_answered(100)
            if settlements.results:
                _, delivery, answer = settlements.results.popleft()
                self.judge.process(delivery, answer)
            if settlements.callbacks:
                self.judge.run_callbacks(settlements.callbacks.popleft())
