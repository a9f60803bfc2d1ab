"""The thread of an outbox goes on, whatever its work raises."""

from __future__ import annotations

from waiting import wait_until

from rambla_py.outbox.keeper import Keeper
from rambla_py.outbox.pending import Pending


class Work:
    """Work of an outbox, of which one step raises."""

    hungry = False

    def __init__(self, step: str) -> None:
        self.pending = Pending()
        self._step = step
        self.calls = 0

    def _call(self, step: str) -> None:
        if step == self._step:
            self.calls += 1
            raise ValueError("a mistake")

    def work(self, *, claim: bool) -> None:
        self._call("work")

    def end_old(self) -> None:
        self._call("end_old")

    def watch_log(self, now: float) -> None:
        self._call("watch_log")


def test_an_error_of_any_step_does_not_end_the_thread() -> None:
    """Nothing would be removed any more, nor handed out, and publishers would not notice."""
    for step in ("work", "end_old", "watch_log"):
        work = Work(step)
        keeper = Keeper(work, poll_s=0.01)
        keeper.start()
        try:
            wait_until(lambda work=work: work.calls >= 2)  # type: ignore[misc]
        finally:
            keeper.stop()
