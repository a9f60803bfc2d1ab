"""Publishing through an app without a pause while a test breaks things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from rambla_py import Outcome, Rambla, Receipt
from rambla_py.testing.processes import deadline

WAIT_S = 60.0


class Load:
    """A thread that publishes to ``orders`` the messages that ``message_of`` makes of their numbers."""

    def __init__(self, app: Rambla, message_of: Callable[[int], Any]) -> None:
        self.receipts: list[Receipt] = []
        self._app, self._message_of, self._over = app, message_of, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        # Without an end of its own: a fault may take long to bring about, and has to find it at work.
        while not self._over.wait(0.002):
            for _ in range(5):
                self.receipts.append(self._app.publish("orders", self._message_of(len(self.receipts))))

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.done() > 100)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(WAIT_S)

    def done(self) -> int:
        return sum(receipt.done() for receipt in self.receipts)

    def goes_on(self, more: int = 300) -> None:
        """Wait until so many messages more have an outcome, those first that have none yet."""
        waiting = list(self.receipts)
        until(lambda: all(receipt.done() for receipt in waiting))
        before = self.done()
        until(lambda: self.done() > before + more)

    def outcomes(self) -> list[Outcome]:
        return [receipt.outcomes(timeout_s=WAIT_S)[0] for receipt in self.receipts]


def until(condition: Callable[[], Any]) -> None:
    for _ in deadline(WAIT_S, poll_s=0.01):
        if condition():
            return
    raise TimeoutError
