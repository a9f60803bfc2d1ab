"""This module is the actor that keeps a target's workers: starts them, replaces the dead and the stuck."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from rambla_py.actors.actor import Actor, OnDeath
from rambla_py.actors.closing import drop_waiting
from rambla_py.actors.worker import Worker
from rambla_py.errors import (
    DeliveryError,
    UnknownOutcomeError,
    describe,
)
from rambla_py.policy import restarts_exceeded

if TYPE_CHECKING:
    from rambla_py.actors.session import Session
    from rambla_py.actors.target import Target
    from rambla_py.delivery import Delivery

__all__ = ["MAX_ABANDONED", "Pool"]

log = logging.getLogger("rambla_py.pool")

MAX_ABANDONED = 8
_STOP_WORKER_S = 2.0


class Pool(Actor):
    """Supervises the workers of one target, one for one.

    A worker that died outside user code is replaced; after more than ``max_restarts`` in ``max_seconds`` the
    channel is ``down`` and the pool tries again every ``slow_restart_s``. A worker whose attempt or callback
    took longer than ``attempt_timeout_s`` is abandoned, for a thread cannot be ended, and replaced; no more
    than ``MAX_ABANDONED`` stand about, or the channel is ``down`` until one of them returns.
    """

    def __init__(self, target: Target, on_death: OnDeath) -> None:
        super().__init__(f"rambla {target.service}.{target.channel} pool", on_death)
        self._target = target
        self._workers: list[Worker | None] = [None] * target.config.count
        self._restarts: deque[float] = deque(maxlen=target.config.max_restarts + 1)
        self._slow_until = 0.0

    # -- the crew, as the target sees it; from any thread ----------------------------------------------

    def sessions(self) -> list[Session]:
        """Return the sessions of the workers that are connected."""
        return [worker.session for worker in self._living() if worker.session is not None]

    def states(self) -> list[str]:
        """Return each worker's state."""
        return [worker.state for worker in self._living()]

    def in_limbo(self) -> int:
        """Return how many deliveries wait for what a callback says of them."""
        return sum(worker.judge.in_limbo for worker in self._living())

    def nudge(self, worker: int | None = None) -> None:
        """Make that worker look around, or every one, if it sleeps."""
        chosen = self._living() if worker is None else [self._workers[worker]]
        for one in chosen:
            if one is not None:
                one.nudge()

    def abandon_judgements(self) -> list[tuple[Delivery, Any]]:
        """Take what hanging callbacks were asked about."""
        return [pair for worker in self._living() for pair in worker.judge.abandon()]

    def check(self, now: float) -> None:
        """Look for work of this actor's own, and wake it when there is some."""
        if (self._slow_until and now >= self._slow_until) or any(
            self._stuck(worker, now) for worker in self._living()
        ):
            self.wake()

    def _living(self) -> list[Worker]:
        return [worker for worker in self._workers if worker is not None]

    # -- the actor --------------------------------------------------------------------------------------

    def begun(self) -> None:
        self._target.roster.crew = self
        self._target.roster.idle.clear()
        if self._target.closed:  # the stop was quicker than this start
            drop_waiting(self._target)
        self._target.alarm.watch()
        for index in range(len(self._workers)):
            self._start_worker(index)

    def receive(self, message: Any) -> None:
        now, roster = time.monotonic(), self._target.roster
        for worker in self._living():
            if self._stuck(worker, now):
                self._give_up(worker, now)
        roster.abandoned = [worker for worker in roster.abandoned if worker.is_alive()]
        self._replace_missing(now)

    def on_stop(self) -> None:
        """Stop the workers, each after what it does now."""
        for worker in self._living():
            worker.stop()
        for worker in self._living():
            if not worker.halt(_STOP_WORKER_S):
                self._abandon(worker, UnknownOutcomeError("its pool was stopped while it was stuck"))

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Give up the workers: the next pool starts its own."""
        for worker in self._living():
            worker.abandoned = True
            worker.stop()
            self._take_over(worker, UnknownOutcomeError("the pool died"))
        super().on_failure(exception_type, exception_value, traceback)

    def _start_worker(self, index: int) -> None:
        worker = Worker(self._target, index, lambda error: self._died(index, error))
        self._workers[index] = worker
        worker.begin()

    def _died(self, index: int, error: BaseException) -> None:
        """Take back what a dead worker had; called on its thread, at its very end."""
        worker = self._workers[index]
        if worker is not None:
            worker.state = "down"
            died = DeliveryError(f"the worker died: {describe(error)}")
            self._take_over(worker, UnknownOutcomeError(str(died)), running=died)
        self.wake()

    def _replace_missing(self, now: float) -> None:
        dead = [at for at, worker in enumerate(self._workers) if worker is None or not worker.is_alive()]
        for index in dead:
            if now < self._slow_until:
                return
            if len(self._target.roster.abandoned) >= MAX_ABANDONED:
                self._go_slow(now, f"{len(self._target.roster.abandoned)} workers are stuck")
                return
            self._restarts.append(now)
            config = self._target.config
            if not self._slow_until and restarts_exceeded(
                self._restarts, now, max_restarts=config.max_restarts, max_seconds=config.max_seconds
            ):
                self._go_slow(now, f"more than {config.max_restarts} deaths in {config.max_seconds:g} s")
                return
            self._slow_until = 0.0
            self._target.note = None
            self._start_worker(index)

    def _go_slow(self, now: float, why: str) -> None:
        if not self._slow_until:
            log.error("%s is down: %s", self._target.config.name, why)
        self._slow_until = now + self._target.config.slow_restart_s
        self._target.note = "down"

    # -- stuck workers ------------------------------------------------------------------------------------

    def _stuck(self, worker: Worker, now: float) -> bool:
        timeout_s = self._target.config.attempt_timeout_s
        busy_since, session = worker.busy_since, worker.session
        if busy_since is not None and now - busy_since >= timeout_s:
            return True
        return session is not None and not session.lost and session.overdue(now, timeout_s)

    def _give_up(self, worker: Worker, now: float) -> None:
        config, session = self._target.config, worker.session
        late = UnknownOutcomeError(
            f"an attempt took longer than attempt_timeout_s = {config.attempt_timeout_s:g}"
        )
        busy_since = worker.busy_since
        if busy_since is None or now - busy_since < config.attempt_timeout_s:
            # The worker is free and the answer is missing: it closes the connection itself.
            if session is not None:
                session.lose(late)
            return
        log.error("%s: worker %d is stuck and abandoned", config.name, worker.index)
        self._abandon(worker, late)

    def _abandon(self, worker: Worker, error: BaseException) -> None:
        worker.abandoned = True
        worker.state = "stuck"
        worker.stop()  # should its call ever return, the thread ends
        self._workers[worker.index] = None
        self._target.roster.abandoned.append(worker)
        self._take_over(worker, error)

    def _take_over(
        self, worker: Worker, error: BaseException, *, running: BaseException | None = None
    ) -> None:
        """Hand what a worker had to whoever judges next, and close its connection from outside."""
        session, target = worker.session, self._target
        worker.retire()
        worker.session = None
        if session is not None:
            session.error = session.error or error
            for delivery, answer in session.give_up(target.config.attempt_timeout_s, error, running=running):
                target.hand_in(delivery, answer)
            self._close_outside(worker, session)
        for delivery, undecided in worker.judge.abandon():
            target.hand_in(delivery, undecided)
        target.roster.wake()

    def _close_outside(self, worker: Worker, session: Session) -> None:
        # Closing may hang as well, and often it is what frees the stuck call.
        closer = threading.Thread(
            target=worker.close_connection,
            args=(session.state.connection,),
            daemon=True,
            name=f"{worker.name} closer",
        )
        try:
            closer.start()
        except RuntimeError:  # the interpreter is ending and starts no threads
            log.debug("%s: its connection is left to the exit", worker.name)
