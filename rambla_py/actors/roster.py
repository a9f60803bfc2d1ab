"""This module wakes those who work for a target."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.policy import worker_of

if TYPE_CHECKING:
    from rambla_py.actors.alarm import Alarm
    from rambla_py.actors.session import Session
    from rambla_py.actors.wakes import Wakes
    from rambla_py.delivery import Delivery

__all__ = ["Crew", "Roster", "Stuck", "Summons"]


class Waker(Protocol):
    """Who can be woken when a message comes."""

    def wake(self) -> None: ...


class Summons:
    """A function in the place of somebody to wake."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.wake = call


class Crew(Protocol):
    """The live half of a target, as its front sees it: workers that come and go."""

    def sessions(self) -> list[Session]: ...

    def check(self, now: float) -> None: ...

    def nudge(self, worker: int | None = None) -> None: ...

    def states(self) -> list[str]: ...

    def in_limbo(self) -> int: ...

    def abandon_judgements(self) -> list[tuple[Delivery, Any]]: ...


class Stuck(Protocol):
    """A worker whose thread hangs in user code."""

    def is_alive(self) -> bool: ...


class Roster:
    """Who works for a target now: its ``crew``, those ``abandoned``, and whom to wake for a message.

    ``idle`` holds those to wake when a message comes. Before the start it holds who starts the channel, and
    after the end who drops what comes too late, so that a publisher need not ask. ``nobody`` is the crew of
    a target that has no pool. ``trouble`` is what a worker met when it connected last, None when it could.
    """

    def __init__(
        self, *, workers: int, start: Callable[[], None], nobody: Crew, wakes: Wakes, alarm: Alarm
    ) -> None:
        self.nobody = self.crew = nobody
        self.idle: deque[Waker] = deque([Summons(start)])
        self.abandoned: list[Stuck] = []
        self.wakes = wakes
        self.trouble: BaseException | None = None
        self._workers, self._alarm = workers, alarm

    def wake(self) -> None:
        """Wake one of those that wait for messages."""
        try:
            waker = self.idle.popleft()
        except IndexError:
            return
        waker.wake()
        self._alarm.watch()

    def wake_for(self, delivery: Delivery) -> None:
        """Wake somebody who may take this delivery: the one worker of its key, or any."""
        if delivery.key is not None:
            self.crew.nudge(worker_of(delivery.key, self._workers))
        if self.idle:
            self.wake()

    def nudge(self) -> None:
        """Make every worker that sleeps look around."""
        self.crew.nudge()
