"""The workers of a target: started, and replaced when dead or stuck."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rambla_py.errors import ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.policy import restarts_exceeded
from rambla_py.runtime.delivery.key_runs import hold_back
from rambla_py.runtime.delivery.reconnect import Reconnect
from rambla_py.runtime.delivery.stuck import busy_since, is_held, is_stuck
from rambla_py.runtime.delivery.worker import IDLE_CHECK_S, Worker
from rambla_py.runtime.target.shutdown import drop_waiting
from rambla_py.runtime.worker_threads import leave_worker
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.in_flight import InFlight
    from rambla_py.runtime.target.target import Target

__all__ = ["MAX_ABANDONED", "Pool"]

log = logging.getLogger("rambla_py.pool")

MAX_ABANDONED = 8


class Pool:
    """Supervises the workers of one target, one for one, without a thread of its own.

    The first publisher to the target starts the workers' threads; the timer finds stuck workers; a dying
    worker starts its replacement. A worker that died outside user code is replaced; after more than
    ``max_restarts`` in ``max_seconds`` the channel is ``down``, and the pool tries again every
    ``slow_restart_s``. A worker whose attempt or callback took longer than ``attempt_timeout_s`` is
    abandoned, because a thread cannot be killed, and replaced; with ``MAX_ABANDONED`` of them the channel is
    ``down`` until one returns. That does not count as a death. A connect that took longer counts as an
    unreachable server, like one that raises: the replacement continues the same back-off.

    ``start`` starts the workers' threads, ``open`` lets them work. The lock guards the list of workers and
    their restarts; while it is held, only the locks of state and counters are taken, and no user code runs.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._workers: list[Worker | None] = [None] * target.config.count
        self._isolated: Worker | None = None
        self._leaving: weakref.WeakSet[Worker] = weakref.WeakSet()
        self._resting = False
        self._restarts: deque[float] = deque(maxlen=target.config.max_restarts + 1)
        self._slow_until = 0.0
        self._given_up: dict[int, Reconnect | None] = {}
        self._lock = threading.RLock()
        self._starting = False
        self._failed_starts: deque[tuple[int, RuntimeError]] = deque()
        self._open = threading.Event()
        self._stopping = False
        self.threadless = False
        """Whether a worker could not start because the interpreter is ending: see ``work_here``."""

    # -- WorkerGroup: what the target uses; from any thread ---------------------------------------------

    def sessions(self) -> list[InFlight]:
        """Return the sessions of connected workers."""
        return [worker.session for worker in self._living() if worker.session is not None]

    def states(self) -> list[str]:
        """Return each worker's state; ``blocked`` too for one that waits inside its handler."""
        ordinary = [worker for worker in self._workers if worker is not None]
        return ["blocked" if is_held(worker) else worker.state for worker in ordinary]

    def turned_at(self, now: float) -> float | None:
        """Return when a worker last began its loop, ``now`` while one is in user code; None before that."""
        if self._target.wakeup.abandoned:
            return now
        living = [worker for worker in self._living() if worker.is_alive()]
        if any(worker.busy_since is not None for worker in living):
            return now
        return max((worker.turned_at for worker in living if worker.turned_at is not None), default=None)

    def pending_callbacks(self) -> int:
        """Return how many deliveries wait for the answer of a callback."""
        return sum(worker.pending_callbacks() for worker in self._living())

    def wake_workers(self, worker: int | None = None) -> None:
        """Wake one worker, or all, if they sleep."""
        chosen = self._living() if worker is None else [self._workers[worker]]
        for one in chosen:
            if one is not None:
                one.wake_if_sleeping()

    def try_suspects(self) -> None:
        """Wake the isolated worker to take suspects; starts one if there is none."""
        target, worker = self._target, self._isolated
        if not target.mailbox.isolated:
            return
        if worker is not None and worker.is_alive():
            worker.wake_if_sleeping()
        else:
            self._start_isolated()

    def take_pending_callbacks(self) -> list[tuple[LiveDelivery, Any]]:
        """Take the deliveries whose callbacks have not returned."""
        return [pair for worker in self._living() for pair in worker.take_pending()]

    def check_workers(self, now: float) -> None:
        """Abandon stuck workers, and replace missing ones; on the timer's thread."""
        wakeup = self._target.wakeup
        for worker in self._living():
            if is_stuck(worker, now, self._target.config.attempt_timeout_s):
                self._time_out(worker, now)
        wakeup.forget_returned()
        self._replace_missing(now)
        if self._target.mailbox.has_suspects:
            self.try_suspects()

    def _living(self) -> list[Worker]:
        return [worker for worker in (*self._workers, self._isolated, *self._leaving) if worker is not None]

    # -- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers that do not run; from any thread."""
        with self._lock:
            if self._resting:
                self._resting = False
                self._target.wakeup.attach(self)
        for index in range(len(self._workers)):
            self._start_worker(index)
        self._log_failed_starts()

    def open(self) -> None:
        """Let the workers work: the external servers are up."""
        target = self._target
        self._stopping = False
        target.wakeup.attach(self)
        if target.state.closed:  # stopped while this was starting
            drop_waiting(target)
        target.timer.watch()
        self._open.set()
        self.start()

    def rest(self) -> bool:
        """Let the workers end, which have nothing to do, until ``start``; return whether they do."""
        target = self._target
        with self._lock:
            if self._stopping or not self._open.is_set() or target.state.name not in ("up", "idle"):
                return False
            target.wakeup.detach()
            if target.pending() or any(session.in_flight for session in self.sessions()):  # meanwhile
                target.wakeup.attach(self)
                self.wake_workers()
                return False
            leaving, self._resting = self._living(), True
            self._leaving.update(leaving)
            self._workers, self._isolated = [None] * len(self._workers), None
        for worker in leaving:
            worker.leave()
        target.state.changed()
        return True

    def is_alive(self) -> bool:
        """Return True; a pool has no thread that could die."""
        return True

    def ask_to_stop(self) -> None:
        """Ask each worker to stop after its current work."""
        with self._lock:  # afterwards the list has a worker that is being started
            self._stopping = True
        for worker in self._living():
            worker.stop()
        self._open.set()  # workers that wait for it must stop as well

    def halt(self, timeout_s: float) -> bool:
        """Stop the workers and abandon those that do not end in time; return whether all ended."""
        self.ask_to_stop()
        deadline = time.monotonic() + timeout_s
        late = [worker for worker in self._living() if not worker.halt(max(0.0, deadline - time.monotonic()))]
        for worker in late:
            self._abandon(worker, UnknownOutcomeError("its pool was stopped while it was stuck"))
        self._open.clear()
        return not late

    def _start_worker(self, index: int) -> None:
        with self._lock:
            worker = self._workers[index]
            if self._starting or self._stopping or (worker is not None and worker.is_alive()):
                return
            self._starting = True  # this thread may enter again, because a finalizer may publish
            reconnect = self._given_up.pop(index, None)
            try:
                worker = Worker(self._target, index, self._open, self._died, reconnect=reconnect)
                # Added to the list first: once its thread runs it may deliver, and status() must show it.
                self._workers[index] = worker
                worker.begin()
            except RuntimeError as error:  # too many threads for now, or the interpreter is ending
                self._workers[index] = None
                self.threadless = "shutdown" in str(error)
                self._failed_starts.append((index, error))
            finally:
                self._starting = False

    def _log_failed_starts(self) -> None:
        """Log the workers that could not start; without the lock, because a log handler may publish."""
        config = self._target.config
        level = logging.DEBUG if self.threadless else logging.ERROR
        while self._failed_starts:
            try:
                index, error = self._failed_starts.popleft()
            except IndexError:  # another thread took it
                return
            text, extra = self._target.error_text(error), target_extra(config, index)
            log.log(level, "%s: worker %d cannot start: %s", config.name, index, text, extra=extra)

    def _start_isolated(self) -> None:
        """Start the isolated worker; if no thread can be started, ordinary workers try suspects instead."""
        with self._lock:
            worker = self._isolated
            running = worker is not None and worker.is_alive()
            stuck = len(self._target.wakeup.abandoned) >= MAX_ABANDONED
            if running or stuck or self._starting or self._stopping or not self._open.is_set():
                return
            self._starting = True
            try:
                index = len(self._workers)
                reconnect = self._given_up.pop(index, None)
                worker = Worker(
                    self._target, index, self._open, self._died, isolated=True, reconnect=reconnect
                )
                self._isolated = worker
                worker.begin()
                return
            except RuntimeError:  # the interpreter is ending and starts no threads
                self._isolated = None
                self._target.mailbox.isolate(False)
            finally:
                self._starting = False
        self.wake_workers()

    def work_here(self, watch: Callable[[Callable[[float], float | None], float], None]) -> None:
        """Run one worker after the other on the calling thread, until there is nothing left to do.

        ``watch`` adds a job to the timer, which stops an idle worker.
        """
        for index, worker in enumerate(self._workers):
            if self._stopping or self._target.mailbox.empty or (worker is not None and worker.is_alive()):
                continue
            here = Worker(self._target, index, self._open, self._died)
            self._workers[index] = here
            watch(here.stop_when_idle, time.monotonic() + IDLE_CHECK_S)
            try:
                here.run_here()
            finally:
                leave_worker()

    def _died(self, worker: Worker, error: BaseException) -> None:
        """Recover a dead worker's deliveries, and replace it; called on its thread, at its end."""
        died = DeliveryError(f"the worker died: {self._target.error_text(error)}")
        session = worker.abandon("down")
        self._recover(worker, session, UnknownOutcomeError(str(died)), running=died)
        self._replace_missing(time.monotonic())

    def _replace_missing(self, now: float) -> None:
        # The timer and a dying worker may call this concurrently; each decides and acts under the lock.
        with self._lock:
            was_down = bool(self._slow_until)
            why = self._restart_missing(now)
        self._log_failed_starts()
        if why is not None and not was_down:  # logged without the lock: a log handler may publish
            config = self._target.config
            log.error("%s is down: %s", config.name, why, extra=target_extra(config))

    def _restart_missing(self, now: float) -> str | None:
        """Restart dead workers; return the reason if one may not be restarted, with the target down."""
        for index, worker in enumerate(self._workers):
            if self._stopping or self._resting or self.threadless or now < self._slow_until:
                return None
            if worker is not None and worker.is_alive():
                continue
            why, until = self._refusal(now, died=index not in self._given_up)
            if why is not None:
                self._slow_until = until
                self._target.state.down(why, by="pool")
                return why
            self._slow_until = 0.0
            self._target.state.recovered(by="pool")
            self._target.counters.restart()
            self._start_worker(index)
        return None

    def _refusal(self, now: float, *, died: bool) -> tuple[str | None, float]:
        """Return the reason if no restart is allowed, and until when; counts a restart after a death."""
        stuck, config = len(self._target.wakeup.abandoned), self._target.config
        if stuck >= MAX_ABANDONED:
            return f"{stuck} workers are stuck", now  # asked again at the next tick: one may return
        if died:
            self._restarts.append(now)
            exceeded = restarts_exceeded(
                self._restarts, now, max_restarts=config.max_restarts, max_seconds=config.max_seconds
            )
            if exceeded and not self._slow_until:
                why = f"more than {config.max_restarts} deaths in {config.max_seconds:g} s"
                return why, now + config.slow_restart_s
        return None, now

    # -- stuck workers ------------------------------------------------------------------------------------

    def _time_out(self, worker: Worker, now: float) -> None:
        config, session = self._target.config, worker.session
        late = UnknownOutcomeError(
            f"an attempt took longer than attempt_timeout_s = {config.attempt_timeout_s:g}"
        )
        since = busy_since(worker)
        if since is None or now - since < config.attempt_timeout_s:
            if session is not None:
                self._time_out_attempts(worker, session, late, now)
            return
        if worker.connecting:
            self._abandon(worker, late, worker.give_up_connect(self._hanging_connect()))
            return
        log.error(
            "%s: worker %d is stuck and abandoned",
            config.name,
            worker.index,
            extra=target_extra(config, worker.index),
        )
        self._abandon(worker, late)

    def _hanging_connect(self) -> ConnectionLostError:
        timeout_s = self._target.config.attempt_timeout_s
        return ConnectionLostError(f"connecting took longer than attempt_timeout_s = {timeout_s:g}")

    def _time_out_attempts(
        self, worker: Worker, session: InFlight, late: UnknownOutcomeError, now: float
    ) -> None:
        """Give up attempts that took too long; also the connection if it has answered nothing since."""
        overdue = session.take_overdue(now, self._target.config.attempt_timeout_s)
        for delivery, answer in overdue.answers:
            self._target.add_result(delivery, answer)
        worker.cancel_attempts([delivery for delivery, _ in overdue.answers])
        if overdue.silent:
            session.lose(late)  # the worker closes the connection itself
        else:
            session.reopen()

    def _abandon(self, worker: Worker, error: BaseException, reconnect: Reconnect | None = None) -> None:
        self._given_up[worker.index] = reconnect
        session = worker.abandon("down")
        worker.stop()  # its thread ends if the call ever returns
        if worker.isolated:
            self._isolated = None
        elif worker in self._leaving:
            self._leaving.discard(worker)
        else:
            self._workers[worker.index] = None
        self._target.wakeup.add_abandoned(worker)
        for connection in self._target.observers.connection:
            connection(self._target.config, worker.index, "abandoned", error)
        self._recover(worker, session, error)

    def _recover(
        self,
        worker: Worker,
        session: InFlight | None,
        error: BaseException,
        *,
        running: BaseException | None = None,
    ) -> None:
        """Pass a worker's deliveries on to other workers, and close its connection from outside."""
        target = self._target
        if session is not None:
            session.lose(error)
            left = session.abandon(target.config.attempt_timeout_s, error, running=running)
            if target.takes_runs:
                left = hold_back(target, [delivery for delivery, _ in left], left)
            for delivery, answer in left:
                target.add_result(delivery, answer)
            self._close_outside(worker, session)
        for delivery, undecided in worker.take_pending():
            target.add_result(delivery, undecided)
        target.wakeup.wake()

    def _close_outside(self, worker: Worker, session: InFlight) -> None:
        # Closing may hang as well, but often it is what frees the stuck call.
        closer = threading.Thread(
            target=worker.close_connection,
            args=(session.state.connection,),
            daemon=True,
            name=f"{worker.name} closer",
        )
        try:
            closer.start()
        except RuntimeError:  # the interpreter is ending and starts no threads
            log.debug("%s: its connection is closed by the exit", worker.name, extra=worker.log_extra)
