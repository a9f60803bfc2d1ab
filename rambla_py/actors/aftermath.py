"""This module runs the callbacks of deliveries that ended while their target had no worker."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rambla_py.actors.judge import Judge
from rambla_py.actors.loop import Loop
from rambla_py.actors.plan import make_handler
from rambla_py.actors.room import enter_worker, leave_worker

if TYPE_CHECKING:
    from rambla_py.actors.session import Session
    from rambla_py.actors.target import Target
    from rambla_py.delivery import Delivery

__all__ = ["Nobody", "finish_callbacks", "run_callbacks"]


class Nobody:
    """The crew of a target that has none: not started, disabled, or waiting for its external servers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._running = threading.Lock()

    def sessions(self) -> list[Session]:
        return []

    def states(self) -> list[str]:
        return []

    def in_limbo(self) -> int:
        return 0

    def abandon_judgements(self) -> list[tuple[Delivery, Any]]:
        return []

    def check(self, now: float) -> None:
        """There is nobody to look after."""

    def nudge(self, worker: int | None = None) -> None:
        """Run the callbacks that wait, on a thread for the purpose; one at a time."""
        if self._target.after and self._running.acquire(blocking=False):
            name = f"rambla {self._target.config.name} callbacks"
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
            except RuntimeError:  # the interpreter is ending and starts no threads: stop() runs them
                self._running.release()

    def _run(self) -> None:
        try:
            run_callbacks(self._target)
        finally:
            self._running.release()
        if self._target.after:
            self.nudge()


def run_callbacks(target: Target) -> None:
    """Judge what has an answer and run the callbacks that wait, here, with a handler never connected."""
    loop = Loop(f"rambla {target.config.name} callbacks")
    judge = Judge(target, make_handler(target.config), loop.resolved)
    enter_worker()
    try:
        while target.handed_in:
            judge.judge(*target.handed_in.popleft()[1:])
        while target.after:
            judge.run_after(target.after.popleft())
    except IndexError:  # a worker has come and was quicker
        pass
    finally:
        leave_worker()
        loop.close()


def finish_callbacks(targets: Iterable[Target], timeout_s: float) -> None:
    """Do that wherever something waits, for no longer than ``timeout_s``: a callback may hang."""
    left = [target for target in targets if target.handed_in or target.after]
    if not left:
        return
    thread = threading.Thread(target=_run_for_all, args=(left,), name="rambla callbacks", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending and starts no threads
        _run_for_all(left)
    else:
        thread.join(timeout_s)


def _run_for_all(targets: Iterable[Target]) -> None:
    for target in targets:
        run_callbacks(target)
