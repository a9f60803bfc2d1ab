"""State of one target."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from rambla_py.errors import AccessError, ConnectionLostError

__all__ = ["Cause", "State", "TargetState"]

State = Literal["disabled", "idle", "connecting", "up", "blocked", "down", "closing", "closed"]

Owner = Literal["pool", "supervisor", "backend"]
"""Source of a cause: the pool, the supervisor above it, or the answers of the backend."""

_BY_WORKERS: tuple[State, ...] = ("up", "blocked", "connecting", "down")


class Cause(NamedTuple):
    """A reported state that overrides that of the workers, with the reason as text."""

    state: State
    why: str


class TargetState:
    """The state of a target, since when, and why; every change is one of the named transitions.

    Each owner (pool, supervisor, backend) has at most one cause, so that the recovery of one does not hide
    what another reported. Without a cause, the workers' states decide. ``stop_at`` is the deadline of the
    stop, on the monotonic clock. Thread-safe.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        workers: Callable[[], Sequence[str]],
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.stop_at: float | None = None
        self.closed = False
        self.connect_error: BaseException | None = None
        """Error of the last connect; None once a connect has succeeded."""
        self._refused = False
        self._enabled, self._workers, self._epoch = enabled, workers, epoch
        self._causes: dict[Owner, Cause] = {}
        # Reentrant: a signal handler may ask for the status while its own thread holds it.
        self._lock = threading.RLock()
        self._name: State = "idle" if enabled else "disabled"
        self._since = epoch()
        self._away_since: float | None = None

    def __repr__(self) -> str:
        return f"<TargetState {self.name}>"

    # -- reading --------------------------------------------------------------------------------------

    @property
    def name(self) -> State:
        """The current state."""
        return self.changed()

    @property
    def since(self) -> float:
        """When the current state began, in seconds since the epoch."""
        self.changed()
        return self._since

    def read(self) -> tuple[State, float]:
        """Return the current state with the time at which it began, in seconds since the epoch."""
        with self._lock:
            return self.changed(), self._since

    @property
    def why(self) -> str | None:
        """The reason given for the current state, or None."""
        cause = self._decisive()
        return None if cause is None else cause.why

    @property
    def obstacle(self) -> BaseException | None:
        """What keeps messages from being attempted: why nothing connects, or the cause of the state."""
        if self.connect_error is not None:
            return self.connect_error
        with self._lock:
            causes = sorted(self._causes.values(), key=lambda cause: _BY_WORKERS[::-1].index(cause.state))
        return ConnectionLostError(causes[0].why) if causes else None

    @property
    def unreachable(self) -> bool:
        """Whether nothing can be attempted now: nothing connects, or the backend takes no messages.

        Unlike ``name``, it is also known during a stop.
        """
        with self._lock:
            found = decide(list(self._causes.values()), self._workers())
        return found in ("down", "blocked") or (found == "connecting" and self.connect_error is not None)

    def obstacle_by(self, owner: Owner) -> BaseException | None:
        """Return what this owner reported; None when nothing is in its way."""
        cause = self._causes.get(owner)
        if cause is None:
            return None
        failed = cause.state == "down" and self.connect_error
        return failed or ConnectionLostError(cause.why)

    def away_s(self) -> float:
        """Return for how many seconds the target has been neither ``up`` nor ``idle``."""
        self.changed()
        return 0.0 if self._away_since is None else self._epoch() - self._away_since

    # -- transitions ----------------------------------------------------------------------------------

    def down(self, why: str, by: Owner) -> None:
        """Record that no message can be delivered until ``by`` recovers."""
        self._set(by, Cause("down", why))

    def connecting(self, why: str, by: Owner) -> None:
        """Record that ``by`` is still preparing the connection."""
        self._set(by, Cause("connecting", why))

    def blocked(self, why: str, by: Owner) -> None:
        """Record that the backend is reachable but takes no messages."""
        self._set(by, Cause("blocked", why))

    def recovered(self, by: Owner) -> None:
        """Remove the cause that ``by`` reported."""
        self._set(by, None)

    def connected(self) -> None:
        """Record that a worker has a connection."""
        self.connect_error = None
        self._refused = False
        self.changed()

    def connect_failed(self, error: BaseException) -> bool:
        """Record why nothing is connected; return whether it is the first refusal since something was."""
        self.connect_error = error
        refused = isinstance(error, AccessError)
        with self._lock:
            first = refused and not self._refused
            self._refused = self._refused or refused
        self.changed()
        return first

    def closing(self, at: float) -> None:
        """Record that the app is stopping, with the deadline on the monotonic clock."""
        self.stop_at = at
        self.changed()

    def close(self) -> None:
        """Record that no more attempts are made."""
        self.closed = True
        self.changed()

    def changed(self) -> State:
        """Recompute and return the state; called whenever the state of a worker changes."""
        with self._lock:
            name = self._current()
            if name != self._name:
                self._name, self._since = name, self._epoch()
                if name in ("up", "idle"):
                    self._away_since = None
                elif self._away_since is None:
                    self._away_since = self._since
            return name

    # -- decision -------------------------------------------------------------------------------------

    def _set(self, by: Owner, cause: Cause | None) -> None:
        with self._lock:
            if cause is None:
                self._causes.pop(by, None)
            else:
                self._causes[by] = cause
            self.changed()

    def _current(self) -> State:
        if not self._enabled:
            return "disabled"
        if self.closed:
            return "closed"
        if self.stop_at is not None:
            return "closing"
        return decide(list(self._causes.values()), self._workers())

    def _decisive(self) -> Cause | None:
        name = self.changed()
        with self._lock:
            return next((cause for cause in self._causes.values() if cause.state == name), None)


def decide(causes: list[Cause], workers: Sequence[str]) -> State:
    """Return the state of a running target from the reported causes and the states of its workers.

    >>> decide([], ["connecting", "up"]), decide([Cause("down", "10 deaths")], ["up"]), decide([], [])
    ('up', 'down', 'idle')
    """
    reported = {cause.state for cause in causes}
    if "down" in reported:
        return "down"
    if "connecting" in reported:
        return "connecting"
    shown: State = next((state for state in _BY_WORKERS if state in workers), "idle")
    return "blocked" if shown == "up" and "blocked" in reported else shown
