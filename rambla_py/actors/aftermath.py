"""This module runs the callbacks of deliveries that ended while their target had no worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rambla_py.actors.inside import enter_worker, leave_worker
from rambla_py.actors.judge import Judge
from rambla_py.actors.loop import Loop
from rambla_py.actors.plan import make_handler

if TYPE_CHECKING:
    from rambla_py.actors.session import Session
    from rambla_py.actors.target import Target
    from rambla_py.delivery import Delivery

__all__ = ["Nobody", "finish_callbacks"]

log = logging.getLogger("rambla_py.delivery")


class Nobody:
    """The crew of a target that has none: not started, disabled, waiting for a server, or all stuck."""

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
        """See to answers and callbacks that wait, on a thread for the purpose; one at a time."""
        if self._target.answers.waiting and self._running.acquire(blocking=False):
            name = f"rambla {self._target.config.name} callbacks"
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
            except RuntimeError:  # the interpreter is ending and starts no threads: stop() runs them
                self._running.release()

    def _run(self) -> None:
        loop = Loop(f"rambla {self._target.config.name} callbacks")
        try:
            _run(self._target, Judge(self._target, make_handler(self._target.config), loop.resolved))
        finally:
            loop.close()
            self._running.release()
        if self._target.answers.waiting and not self._target.roster.crew.states():
            self.nudge()


def finish_callbacks(targets: Iterable[Target], timeout_s: float) -> None:
    """Judge what has an answer and run the callbacks that still wait, within ``timeout_s`` in all.

    After that the answers are judged without asking anybody: each delivery gets its outcome.
    """
    deadline = time.monotonic() + timeout_s
    for target in targets:
        if target.answers.waiting:
            _finish(target, deadline)


def _finish(target: Target, deadline: float) -> None:
    handler, loop = make_handler(target.config), Loop(f"rambla {target.config.name} callbacks")
    judge = Judge(target, handler, loop.resolved)
    thread = threading.Thread(target=_run, args=(target, judge), name="rambla callbacks", daemon=True)
    try:
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
    except RuntimeError:  # the interpreter is ending and starts no threads
        _run(target, judge)
    loop.close()
    silent = Judge(target, handler, loop.resolved, asking=False)
    for delivery, undecided in judge.abandon():
        silent.judge(delivery, undecided)
    answers = target.answers
    while answers.handed_in:
        silent.judge(*answers.handed_in.popleft()[1:])
    if answers.after:
        log.error("%s: %d callbacks were not run before the stop", target.config.name, len(answers.after))


def _run(target: Target, judge: Judge) -> None:
    answers = target.answers
    enter_worker()
    try:
        target.endings.succeed_answered(len(answers.succeeded))
        while answers.handed_in:
            judge.judge(*answers.handed_in.popleft()[1:])
        while answers.after:
            judge.run_after(answers.after.popleft())
    except IndexError:  # another was quicker
        pass
    finally:
        leave_worker()
