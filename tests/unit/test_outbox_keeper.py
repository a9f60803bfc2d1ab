"""The thread of an outbox goes on, whatever its work raises."""

from __future__ import annotations

import time

from waiting import wait_until

from rambla_py.outbox.keeper import Keeper
from rambla_py.outbox.pending import Pending


class Work:
    """Work of an outbox, of which one step raises."""

    hungry = False
    written_at = 0.0

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


class Busy(Work):
    """Work of an outbox whose publishers write all the time, and always leave something pending."""

    looks = 0

    def __init__(self) -> None:
        super().__init__("work")
        self.pending.progress(1, b"", None, 0.0)

    @property
    def written_at(self) -> float:  # type: ignore[override]
        self.looks += 1
        return time.monotonic() if self.looks < 5 else 0.0


def test_publishers_take_along_what_is_pending() -> None:
    """As long as they write, the thread makes no commit of its own, each of which is one more sync."""
    work = Busy()
    keeper = Keeper(work, poll_s=60.0)
    keeper.start()
    try:
        wait_until(lambda: work.calls == 1)  # once they have stopped
    finally:
        keeper.stop()
    assert work.looks >= 5
