"""Callbacks of deliveries that ended while their target had no worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rambla_py.errors import StartError
from rambla_py.handler import Handler
from rambla_py.runtime.delivery.event_loop import EventLoop
from rambla_py.runtime.delivery.retrying import ResultProcessor
from rambla_py.runtime.supervision.plan import make_handler
from rambla_py.runtime.worker_threads import enter_worker, leave_worker
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.in_flight import InFlight
    from rambla_py.runtime.target.target import Target

__all__ = ["NoWorkers", "finish_callbacks"]

log = logging.getLogger("rambla_py.delivery")


class NoWorkers:
    """The worker group of a target without workers: not started, disabled, or all stuck."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._running = threading.Lock()

    def sessions(self) -> list[InFlight]:
        return []

    def states(self) -> list[str]:
        return []

    def turned_at(self, now: float) -> float | None:
        return None

    def pending_callbacks(self) -> int:
        return 0

    def try_suspects(self) -> None:
        """Do nothing; suspects wait for the pool."""

    def take_pending_callbacks(self) -> list[tuple[LiveDelivery, Any]]:
        return []

    def check_workers(self, now: float) -> None:
        """Do nothing; there is no worker."""

    def wake_workers(self, worker: int | None = None) -> None:
        """Process waiting answers and callbacks on a temporary thread, at most one at a time."""
        if self._target.settlements.waiting and self._running.acquire(blocking=False):
            name = f"rambla {self._target.config.name} callbacks"
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
            except RuntimeError:  # the interpreter is ending and starts no threads: stop() runs them
                self._running.release()

    def _run(self) -> None:
        loop = EventLoop(f"rambla {self._target.config.name} callbacks")
        try:
            _run(self._target, ResultProcessor(self._target, _handler_of(self._target), loop.resolved))
        finally:
            loop.close()
            self._running.release()
        if self._target.settlements.waiting and not self._target.wakeup.has_workers:
            self.wake_workers()


def _handler_of(target: Target) -> Handler:
    """Return an instance for its callbacks; a plain one, for those of the options, when it cannot be made."""
    try:
        return make_handler(target.config, target.servers)
    except StartError as error:
        extra, text = target_extra(target.config), target.error_text(error)
        log.debug("%s: callbacks run without the handler's: %s", target.config.name, text, extra=extra)
        return Handler(target.config.settings)


def finish_callbacks(targets: Iterable[Target], timeout_s: float) -> None:
    """Process waiting answers and run waiting callbacks, within ``timeout_s`` in total.

    Answers that are left then are processed without callbacks, so that each delivery gets its outcome.
    """
    deadline = time.monotonic() + timeout_s
    for target in targets:
        if target.settlements.waiting:
            _finish(target, deadline)


def _finish(target: Target, deadline: float) -> None:
    handler, loop = _handler_of(target), EventLoop(f"rambla {target.config.name} callbacks")
    processor = ResultProcessor(target, handler, loop.resolved)
    thread = threading.Thread(target=_run, args=(target, processor), name="rambla callbacks", daemon=True)
    try:
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
    except RuntimeError:  # the interpreter is ending and starts no threads
        _run(target, processor)
    loop.close()
    without_callbacks = ResultProcessor(target, handler, loop.resolved, run_user_callbacks=False)
    for delivery, undecided in processor.take_pending():
        without_callbacks.process(delivery, undecided)
    settlements = target.settlements
    while settlements.results:
        without_callbacks.process(*settlements.results.popleft()[1:])
    if settlements.callbacks:
        log.error(
            "%s: %d callbacks did not run before the stop",
            target.config.name,
            len(settlements.callbacks),
            extra=target_extra(target.config),
        )


def _run(target: Target, processor: ResultProcessor) -> None:
    settlements = target.settlements
    enter_worker()
    try:
        target.completion.succeed_answered(len(settlements.succeeded))
        while settlements.results:
            processor.process(*settlements.results.popleft()[1:])
        while settlements.callbacks:
            processor.run_callbacks(settlements.callbacks.popleft())
    except IndexError:  # another thread took it first
        pass
    finally:
        leave_worker()
