"""Worker: an actor that attempts deliveries with its own handler and connection."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from rambla_py._internal.side_threads import SideThread, adopt
from rambla_py._internal.tracebacks import drop_tracebacks
from rambla_py.errors import ConnectionLostError
from rambla_py.handler import Handler
from rambla_py.handler import State as HandlerState
from rambla_py.runtime.delivery.answers import loses_connection
from rambla_py.runtime.delivery.batch_source import BatchSource
from rambla_py.runtime.delivery.dispatch import Dispatcher
from rambla_py.runtime.delivery.event_loop import EventLoop, side_threads_of
from rambla_py.runtime.delivery.reconnect import Reconnect
from rambla_py.runtime.delivery.retrying import ResultProcessor
from rambla_py.runtime.supervision.actor import Actor
from rambla_py.runtime.supervision.plan import make_handler
from rambla_py.runtime.target.in_flight import InFlight
from rambla_py.runtime.worker_threads import enter_worker, leave_worker
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.state import State
    from rambla_py.runtime.target.target import Target

__all__ = ["Worker"]

log = logging.getLogger("rambla_py.worker")

_SUCCESSES_A_PASS = 500
_RESULTS_A_PASS = 50
_MANY = 64
IDLE_CHECK_S = 0.02
"""Seconds between two checks whether a worker on a borrowed thread is idle."""
_BATCH_ANSWERS_S = 0.0005
_BATCH_ANSWERS_LONG_S = 0.005
_ISOLATED_IDLE_S = 5.0


class Worker(Actor):
    """Takes batches from its target, calls the handler, and processes the answers.

    One iteration of its loop: process results, run callbacks, connect if necessary, take a batch and attempt
    it. When there is nothing to do it sleeps, until a publisher, a result, or a timer wakes it.

    An ``isolated`` worker takes groups of suspects only, on a connection of its own, and stops when there
    have been none for a while. A worker that replaces one whose connect hung continues its ``reconnect``.
    """

    _dispatcher: Dispatcher

    def __init__(
        self,
        target: Target,
        index: int,
        pool_open: threading.Event,
        on_death: Callable[[Worker, BaseException], None],
        *,
        isolated: bool = False,
        reconnect: Reconnect | None = None,
    ) -> None:
        what = "isolated worker" if isolated else f"worker {index}"
        name = f"rambla {target.service}.{target.channel} {what}"
        super().__init__(name, functools.partial(on_death, self))
        self.index, self.isolated = index, isolated
        self.session: InFlight | None = None
        self.state: State = "connecting"
        self.abandoned = False
        self.busy_since: float | None = None
        self.turned_at: float | None = None
        self.connecting = False
        self._target = target
        self._side_threads: list[SideThread] = []
        self._pool_open = pool_open
        self._loop = EventLoop(self.name)
        # Until the handler is made, and while that fails, a plain one runs the callbacks of the options.
        self._handler = Handler(target.config.settings)
        self.processor = ResultProcessor(target, self._handler, self._loop.resolved)
        self._reconnect = reconnect or Reconnect(target, index, isolated=isolated)
        self._sleeping = False
        self._in_idle = False
        self._leaves = False

    @property
    def log_extra(self) -> dict[str, Any]:
        """The fields of its log records."""
        return target_extra(self._target.config, self.index)

    # -- the loop -------------------------------------------------------------------------------------

    def begin(self) -> Self:
        """Start the worker's thread, and those that its handler and its event loop need."""
        try:
            for at in range(side_threads_of(self._target.config)):
                self._side_threads.append(SideThread(f"{self.name} side {at}"))
            return super().begin()
        except RuntimeError:  # no more threads can be started
            self._close_side_threads()
            raise

    def begun(self) -> None:
        adopt(self._side_threads)
        self._pool_open.wait()
        if not self.asked_to_stop:
            enter_worker()
            self.turned_at = time.monotonic()
            self._run()

    def _build(self) -> None:
        """Make the handler, on the worker's own thread: its constructor is user code."""
        target = self._target
        handler = make_handler(target.config, target.servers)
        self.processor = ResultProcessor(target, handler, self._loop.resolved)
        resolved, timed = self._loop.resolved, self._timed
        self._dispatcher = Dispatcher(target, handler, self.processor, self._loop, timed, resolved)
        self._source = BatchSource(target, self.index, self._dispatcher, self.wake_at, isolated=self.isolated)
        self._handler = handler

    def pending_callbacks(self) -> int:
        """Return how many deliveries wait for the answer of a callback."""
        return self.processor.pending_callbacks

    def take_pending(self) -> list[tuple[LiveDelivery, Any]]:
        """Take the deliveries whose callbacks have not returned."""
        return list(self.processor.take_pending())

    def receive(self, message: Any) -> None:
        if self.turned_at is None:  # stopped before its pool was open
            return
        self._sleeping = False
        self._target.wakeup.wake_limiter.started(self)
        self._leave_idle()
        session = self.session
        if session is not None and (session.sent or session.unsent) and session.in_flight >= _MANY:
            # More answers are about to come: batch those of the next 0.5 ms into one iteration. If the
            # handler has many queued, 5 ms go unnoticed.
            time.sleep(_BATCH_ANSWERS_S if len(session.unsent) < _MANY else _BATCH_ANSWERS_LONG_S)
        if not ((self._leaves or self.isolated) and self._end_if_idle()):
            self._run()

    def wake(self) -> None:
        """Wake it; called by a publisher that removed it from the list of idle workers."""
        self._in_idle = False
        if self.asked_to_stop or self._leaves:
            self._target.wakeup.wake()
        else:
            self._target.wakeup.wake_limiter.wake(self)

    def leave(self) -> None:
        """Stop once nothing is in flight."""
        self._leaves = True
        self.wake_now()

    def wake_if_sleeping(self) -> None:
        """Wake it if it sleeps; for work that only this worker can do."""
        if self._sleeping:
            self._sleeping = False
            self.wake_now()

    def withdraw(self) -> None:
        """Remove it from the workers that publishers wake; from any thread, once it is stuck or dead."""
        self._leave_idle()
        self._target.wakeup.wake_limiter.started(self)

    def abandon(self, state: State) -> InFlight | None:
        """Give up a stuck or dead worker, which attempts nothing more; return its session, once."""
        self.abandoned = True
        self._show(state)
        self.withdraw()
        session, self.session = self.session, None
        self._close_side_threads()
        return session

    def _close_side_threads(self) -> None:
        for thread in self._side_threads:
            thread.close()

    def stop_when_idle(self, now: float) -> float | None:
        """Stop once there is nothing to do, as a job of the timer; return when to check again."""
        if not self.is_alive():
            return None
        session, target = self.session, self._target
        in_flight = session is not None and session.in_flight
        waiting = in_flight or target.settlements.waiting
        if self._sleeping and not waiting and not target.has_work(self.index, alone_ok=True):
            self.stop()
            return None
        return now + IDLE_CHECK_S

    def _run(self) -> None:
        target, home, settlements = self._target, self._target.home, self._target.settlements
        self.turned_at = time.monotonic()
        while self.actor_inbox.empty() and not self.abandoned:
            if home.forked:  # a handler forked and returned in the child: this worker is the parent's
                self.actor_stopped.set()
                return
            worked = settlements.waiting and self._process_results()
            if not self._ensure_connected():
                if not worked and self._sleep_unless_busy(ready=False):
                    return
                continue
            session = self.session
            batch, now = self._source.take(session)
            if batch and session is not None:
                self.turned_at = now
                self._dispatcher.attempt(session, batch, now)
                # Usually nothing is left: sleep at once instead of finding that out in the next iteration.
                if target.mailbox.empty and not (session.held or home.forked):
                    if self._source.gathers:
                        self._source.expect(session)
                    if self._sleep_unless_busy(ready=True):
                        return
                del batch  # a connect that takes long would keep its messages in memory
            elif not worked and self._sleep_unless_busy(ready=True):
                return

    def _sleep_unless_busy(self, *, ready: bool) -> bool:
        """Prepare to sleep unless there is work meanwhile; return whether to sleep."""
        self._sleeping = True
        free = ready and self._source.free(self.session) > 0
        held_back = self.actor_inbox.due is not None  # for a batch to fill, or for the rate
        if self.isolated:
            if free and not held_back:
                self.wake_at(time.monotonic() + _ISOLATED_IDLE_S)
        elif free and not self._in_idle:
            self._in_idle = True
            self._target.wakeup.idle.append(self)
        session, target = self.session, self._target
        lost = session is not None and session.error is not None
        if not (
            lost
            or target.settlements.waiting
            or (free and not target.mailbox.empty and self._source.has_work(session, held_back=held_back))
        ):
            return True
        self._sleeping = False
        self._leave_idle()
        return False

    def _leave_idle(self) -> None:
        """Leave the list of idle workers, so that publishers do not wake it instead of a free one."""
        self._target.gathering.on = False  # it may have other work when the batch is due
        if self._in_idle:
            self._in_idle = False
            with contextlib.suppress(ValueError, IndexError):
                self._target.wakeup.idle.remove(self)

    # -- answers --------------------------------------------------------------------------------------

    def _process_results(self) -> bool:
        """Process some of the answers, few at a time, so that the connection stays busy."""
        settlements = self._target.settlements
        self._target.completion.succeed_answered(_SUCCESSES_A_PASS)
        for session, delivery, answer in settlements.each_result(_RESULTS_A_PASS):
            self._process_result(session, delivery, answer)
        for item in settlements.each_callback(_RESULTS_A_PASS):
            self._timed(self.processor.run_callbacks, item)
        return True

    def _process_result(self, session: InFlight | None, delivery: LiveDelivery, answer: Any) -> None:
        try:
            self._timed(self.processor.process, delivery, answer)
        except BaseException as error:  # a bug here must not cost a message its outcome
            log.exception("%s: failed to process an answer", self.name, extra=self.log_extra)
            if delivery.receipt is not None:
                self._target.completion.finish(delivery, "fatal", error)
            if not self._target.collaborators.debug:
                drop_tracebacks(error)
        if session is not None and loses_connection(answer):
            session.lose(answer)

    def _timed(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run user code; the pool abandons this worker if it hangs there."""
        self.busy_since = time.monotonic()
        try:
            return step(*args)
        finally:
            self.busy_since = None

    # -- connection -----------------------------------------------------------------------------------

    def _ensure_connected(self) -> bool:
        session = self.session
        if session is not None and session.error is None:
            if session.held != (self.state == "blocked"):
                self._reconnect.held(session.held)
            state: State = "blocked" if session.held else "up"
            if state != self.state:
                self._show(state)
            return True
        if session is not None:
            self._disconnect(session)
        if time.monotonic() < self._reconnect.retry_at:
            self.wake_at(self._reconnect.retry_at)
            return False
        return self._connect()

    def _connect(self) -> bool:
        target, session = self._target, InFlight(self._target.settlements, self.wake_if_sleeping)
        self.connecting = True
        try:
            if type(self._handler) is Handler:
                self._timed(self._build)
            self._handler.link = session.link(target.request_trace)
            connection = self._timed(lambda: self._loop.resolved(self._handler.connect()))
        except BaseException as error:  # user code; whatever it raises, there is no connection
            if self.abandoned:
                drop_tracebacks(error)  # its frames would keep what the driver has open
            else:
                self._connect_failed(error)
            return False
        finally:
            self.connecting = False
        if self.abandoned:
            self.close_connection(connection)
            return False
        session.opened(HandlerState(connection, target.channel, target.service, self.index))
        self.session = session
        self._show("up")
        self.wake_at(None)
        self._reconnect.connected()
        return True

    def give_up_connect(self, error: BaseException) -> Reconnect:
        """Record that its connect hangs; return the back-off for its replacement. On the timer's thread."""
        self.abandoned = True  # should connect return now, its result no longer counts
        self._reconnect.failed(error)
        return self._reconnect

    def _connect_failed(self, error: BaseException) -> None:
        self._reconnect.failed(error)
        self._show("down" if self._reconnect.refused else "connecting")
        self.wake_at(self._reconnect.retry_at)
        self._target.timer.watch()

    def _disconnect(self, session: InFlight) -> None:
        """Close a lost connection; the outcome of what was in flight on it is unknown."""
        target, error = self._target, session.error or ConnectionLostError("closed")
        target.timer.watch()
        self.session = None
        self._show("connecting")
        self._reconnect.lost(error, suspected=session.alone)
        # Deliveries in flight are claimed first: cancelling would settle them as failed.
        left = session.abandon(target.config.attempt_timeout_s, error)
        target.settlements.results.extend((None, *pair) for pair in reversed(left))
        self._loop.cancel(session)
        self._timed(self.close_connection, session.state.connection)

    def cancel_attempts(self, overdue: Sequence[LiveDelivery]) -> None:
        """Cancel attempts that took too long and still run; from any thread."""
        self._loop.cancel_attempts(overdue)

    def _show(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._target.state.changed()

    def close_connection(self, connection: Any) -> None:
        """Close a connection and ignore errors; from any thread, once the worker is stuck or dead."""
        try:
            self._loop.resolved(self._handler.close(connection))
        except BaseException as error:  # user code; the connection is not used again in any case
            log.debug("closing failed: %s", self._target.error_text(error), extra=self.log_extra)

    def on_stop(self) -> None:
        """Close the connection on the worker's own thread."""
        self.withdraw()
        session, self.session = self.session, None
        if session is not None:
            # After stop() nothing is left; after the death of an external server, other workers take over.
            left = session.abandon(self._target.config.attempt_timeout_s, ConnectionLostError("stopped"))
            self._target.settlements.results.extend((None, *pair) for pair in reversed(left))
            self._timed(self.close_connection, session.state.connection)
        while self.turned_at is not None and self._target.settlements.waiting:
            self._process_results()
        self._show("closed")
        self._loop.close()
        self._close_side_threads()
        leave_worker()

    def _end_if_idle(self) -> bool:
        """Stop one that leaves, or an isolated one that has been idle; return whether it stops."""
        if self.session is not None and self.session.in_flight:
            return False
        due = self.actor_inbox.due
        over = due is not None and time.monotonic() >= due
        if not self._leaves and not (over and not self._target.mailbox.has_suspects):
            return False
        self.stop()
        return True
