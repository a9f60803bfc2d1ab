"""This module is the actor that has a handler of its own and a live connection, and attempts deliveries."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from rambla_py.actors.actor import Actor, OnDeath
from rambla_py.actors.attempt import Attempts
from rambla_py.actors.inside import enter_worker, leave_worker
from rambla_py.actors.judge import Judge
from rambla_py.actors.loop import Loop
from rambla_py.actors.mailbox import ALONE_AFTER_LOSSES
from rambla_py.actors.outage import Outage
from rambla_py.actors.plan import make_handler
from rambla_py.actors.session import Session
from rambla_py.errors import (
    ConnectionLostError,
    UnknownOutcomeError,
    describe,
)
from rambla_py.handler import State

if TYPE_CHECKING:
    from rambla_py.actors.target import Target
    from rambla_py.delivery import Delivery

__all__ = ["Worker"]

log = logging.getLogger("rambla_py.worker")

Item = TypeVar("Item")

_SUCCESSES_A_TURN = 500
_ANSWERS_A_TURN = 50
_MANY = 64
_GATHER_S = 0.0005
_GATHER_LONG_S = 0.005
_LOSSES = (ConnectionLostError, UnknownOutcomeError)


class Worker(Actor):
    """Takes batches from its target, runs the handler, and hands the answers to its judge.

    One turn of its loop: judge what was settled, run callbacks, see to the connection, take a batch and
    attempt it. When there is nothing to do it rests, until a publisher, a settle, or an alarm wakes it.
    """

    def __init__(self, target: Target, index: int, on_death: OnDeath) -> None:
        super().__init__(f"rambla {target.service}.{target.channel} worker {index}", on_death)
        config = target.config
        self.index = index
        self.session: Session | None = None
        self.state = "connecting"
        self.abandoned = False
        self.busy_since: float | None = None
        self._target = target
        self._handler = make_handler(config)
        self._loop = Loop(self.name)
        self.judge = Judge(target, self._handler, self._loop.resolved)
        self._attempts = Attempts(
            target, self._handler, self.judge, self._loop, self._timed, self._loop.resolved
        )
        self._limit = 1 if self._attempts.one_by_one else config.batch_size
        self._outage = Outage(target, index)
        self._sleeping = False
        self._listed = False

    # -- the loop -------------------------------------------------------------------------------------

    def begun(self) -> None:
        enter_worker()
        self._run()

    def receive(self, message: Any) -> None:
        self._sleeping = False
        self._target.roster.wakes.begun(self)
        self._unlist()
        session = self.session
        if session is not None and session.in_flight >= _MANY:
            # More answers are on their way: one turn for those of half a millisecond, and not one for each.
            # A handler that has many waiting does not miss us for longer.
            time.sleep(_GATHER_S if len(session.unsent) < _MANY else _GATHER_LONG_S)
        self._run()

    def wake(self) -> None:
        """Be woken by a publisher that took this worker off the list of the idle."""
        self._listed = False
        if self.actor_stopped.is_set():
            self._target.roster.wake()
        else:
            self._target.roster.wakes.wake(self)

    def rouse(self) -> None:
        """Be woken at once."""
        super().wake()

    def nudge(self) -> None:
        """Wake it if it sleeps; for what concerns this worker and not any."""
        if self._sleeping:
            self._sleeping = False
            super().wake()

    def retire(self) -> None:
        """Be woken by publishers no more; from any thread, once it is stuck or dead."""
        self._unlist()
        self._target.roster.wakes.begun(self)

    def _run(self) -> None:
        target, home, answers = self._target, self._target.home, self._target.answers
        while self.actor_inbox.empty() and not self.abandoned:
            if home.forked:  # a handler forked, and came back in the child: this worker is the parent's
                self.actor_stopped.set()
                return
            worked = answers.waiting and self._judge_answers()
            if not self._connected():
                if not worked and self._rest(ready=False):
                    return
                continue
            session = self.session
            batch, now = self._take(session)
            if batch and session is not None:
                self._attempts.attempt(session, batch, now)
                # Mostly that was all: rest at once, where the next turn would only find that out.
                if target.mailbox.empty and not (session.held or home.forked) and self._rest(ready=True):
                    return
            elif not worked and self._rest(ready=True):
                return

    def _rest(self, *, ready: bool) -> bool:
        """Go to sleep unless something came meanwhile; say whether it is time to wait."""
        self._sleeping = True
        free = ready and not self._full()
        if free and not self._listed:
            self._listed = True
            self._target.roster.idle.append(self)
        session, target = self.session, self._target
        lost = session is not None and session.error is not None
        if not (lost or target.answers.waiting or (free and not target.mailbox.empty and self._takeable())):
            return True
        self._sleeping = False
        self._unlist()
        return False

    def _takeable(self) -> bool:
        session = self.session
        if session is None or self.actor_inbox.due is not None or self._target.closed:
            return False
        return self._target.mailbox.takeable(self.index, alone_ok=not session.in_flight)

    def _unlist(self) -> None:
        """Leave the list of the idle, where a publisher would wake it in place of one that is free."""
        if self._listed:
            self._listed = False
            with contextlib.suppress(ValueError, IndexError):
                self._target.roster.idle.remove(self)

    def _full(self) -> bool:
        session = self.session
        if session is None or session.held:
            return True
        in_flight = session.in_flight
        return in_flight >= self._target.config.max_in_flight or (session.alone and in_flight > 0)

    # -- answers --------------------------------------------------------------------------------------

    def _judge_answers(self) -> bool:
        """See to what was answered, a share at a time: in between the connection is to be kept busy."""
        answers = self._target.answers
        self._target.endings.succeed_answered(_SUCCESSES_A_TURN)
        for session, delivery, answer in _taken(answers.handed_in, _ANSWERS_A_TURN):
            self._judge_one(session, delivery, answer)
        for item in _taken(answers.after, _ANSWERS_A_TURN):
            self._timed(self.judge.run_after, item)
        return True

    def _judge_one(self, session: Session | None, delivery: Delivery, answer: Any) -> None:
        try:
            self._timed(self.judge.judge, delivery, answer)
        except BaseException as error:  # a bug of ours must not cost a message its outcome
            log.exception("%s: an answer could not be judged", self._target.config.name)
            if delivery.receipt is not None:
                self._target.endings.finish(delivery, "fatal", error)
        if session is None:
            return
        if isinstance(answer, _LOSSES):
            session.lose(answer)

    def _timed(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run user code with the clock on, so that the pool can give this worker up when it hangs."""
        self.busy_since = time.monotonic()
        try:
            return step(*args)
        finally:
            self.busy_since = None

    # -- connection -----------------------------------------------------------------------------------

    def _connected(self) -> bool:
        session = self.session
        if session is not None and session.error is None:
            self.state = "blocked" if session.held else "up"
            return True
        if session is not None:
            self._disconnect(session)
        if time.monotonic() < self._outage.until:
            self.actor_inbox.due = self._outage.until
            return False
        return self._connect()

    def _connect(self) -> bool:
        target, session = self._target, Session(self._target.answers, self.nudge)
        self._handler.link = session.link()
        try:
            connection = self._timed(lambda: self._loop.resolved(self._handler.connect()))
        except BaseException as error:  # user code; whatever it raises, there is no connection
            self._not_connected(error)
            return False
        if self.abandoned:
            self.close_connection(connection)
            return False
        session.state = State(connection, target.channel, target.service, self.index)
        self.session = session
        self.state = "up"
        self.actor_inbox.due = None
        self._outage.over()
        return True

    def _not_connected(self, error: BaseException) -> None:
        self._outage.goes_on(error)
        self.state = "down" if self._outage.refused else "connecting"
        self.actor_inbox.due = self._outage.until
        self._target.alarm.watch()

    def _disconnect(self, session: Session) -> None:
        """Close a lost connection; what was in flight on it has an unknown outcome."""
        target, error = self._target, session.error or ConnectionLostError("closed")
        target.alarm.watch()
        self.session, self.state = None, "connecting"
        self._outage.begins(error)
        # What is in flight is taken first: cancelling would have it answered as failed.
        left = session.give_up(target.config.attempt_timeout_s, error)
        target.answers.handed_in.extend((None, *pair) for pair in reversed(left))
        self._loop.cancel(session)
        self._timed(self.close_connection, session.state.connection)

    def close_connection(self, connection: Any) -> None:
        """Close a connection, whatever that raises; from any thread, once the worker is stuck or dead."""
        try:
            self._loop.resolved(self._handler.close(connection))
        except BaseException as error:  # user code: a connection that cannot be closed is gone all the same
            log.debug("closing failed: %s", self._target.redact(describe(error)))

    def on_stop(self) -> None:
        """Close the connection on the worker's own thread."""
        self.retire()
        session, self.session = self.session, None
        if session is not None:
            # After stop() there is nothing; after the death of an external server others go on with it.
            left = session.give_up(self._target.config.attempt_timeout_s, ConnectionLostError("stopped"))
            self._target.answers.handed_in.extend((None, *pair) for pair in reversed(left))
            self._timed(self.close_connection, session.state.connection)
        while self._target.answers.waiting:
            self._judge_answers()
        self.state = "stopped"
        self._loop.close()
        leave_worker()

    # -- attempts -------------------------------------------------------------------------------------

    def _take(self, session: Session | None) -> tuple[list[Delivery], float]:
        """Take what may be attempted now, and say when now is; time is asked for when there is something."""
        target = self._target
        if target.mailbox.empty:
            self.actor_inbox.due = None
            return [], 0.0
        if session is None or session.held:
            return [], 0.0
        in_flight = session.in_flight
        free = 0 if session.alone and in_flight else target.config.max_in_flight - in_flight
        if free <= 0:
            return [], 0.0
        now = time.monotonic()
        if target.outlet.may_wait:
            wait_s = target.outlet.wait_s(now, draining=target.stop_at is not None)
            if wait_s is not None:
                self.actor_inbox.due = now + wait_s
                return [], now
        self.actor_inbox.due = None
        batch = target.take(self.index, min(self._limit, free), now, alone_ok=not in_flight)
        if batch:
            session.alone = batch[0].losses >= ALONE_AFTER_LOSSES
        return batch, now


def _taken(queue: deque[Item], limit: int) -> Iterator[Item]:
    """Yield up to ``limit`` items, each taken as it is asked for: what is not, is left to other workers."""
    for _ in range(limit):
        try:
            item = queue.popleft()
        except IndexError:
            return
        yield item
