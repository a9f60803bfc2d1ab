"""Base class of the actors: daemon thread, inbox with a timer, deaths reported to the parent."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pykka
from pykka._envelope import Envelope

from rambla_py._internal.waiting import Signal, wait

__all__ = ["TICK", "WAKE", "Actor", "Inbox", "OnDeath"]

log = logging.getLogger("rambla_py.actors")

WAKE = "wake"
TICK = "tick"

OnDeath = Callable[[BaseException], None]

_BEGIN = "begin"

_BEGIN_ENVELOPE: Envelope[Any] = Envelope(_BEGIN)
_WAKE_ENVELOPE: Envelope[Any] = Envelope(WAKE)
_TICK_ENVELOPE: Envelope[Any] = Envelope(TICK)


class Inbox:
    """A pykka inbox that also delivers TICK when ``due`` comes (monotonic seconds; None: never)."""

    def __init__(self) -> None:
        # Looked up here, not at import time: gevent may have patched it meanwhile.
        self._queue: queue.SimpleQueue[Envelope[Any]] = queue.SimpleQueue()
        self.put: Callable[[Envelope[Any]], None] = self._queue.put
        self.empty: Callable[[], bool] = self._queue.empty
        self.due: float | None = None

    def get(self) -> Envelope[Any]:
        """Wait for a message, or for ``due``."""
        if self.due is None:
            return self._queue.get()
        try:
            # Without this call, a SimpleQueue whose lock is free may find the time-out used up and then wait
            # for ever (CPython 3.11, 3.12).
            return self._queue.get_nowait()
        except queue.Empty:
            pass
        try:
            return self._queue.get(timeout=max(0.0, self.due - time.monotonic()))
        except queue.Empty:
            self.due = None
            return _TICK_ENVELOPE


class _Borrowed:
    """The calling thread, while an actor runs on it."""

    def __init__(self) -> None:
        self.returned = Signal()

    def is_alive(self) -> bool:
        return not self.returned

    def join(self, timeout_s: float) -> None:
        wait(self.returned, timeout_s)


class ActorCrashError(Exception):
    """Wraps a BaseException raised in an actor; a bare one would make pykka stop all of its actors."""


class Actor(pykka.ThreadingActor):
    """A pykka actor that is safe for a publisher.

    Its thread is a daemon, so that a stuck handler cannot block the exit. It is not in pykka's registry, so
    that a ``BaseException`` in a third-party actor, or ``ActorRegistry.stop_all()``, does not stop it. Its
    death is reported to ``on_death``. Its messages carry no payloads, so nothing is lost with its inbox.
    """

    use_daemon_thread = True
    actor_inbox: Inbox

    def __init__(self, name: str, on_death: OnDeath = lambda error: None) -> None:
        super().__init__()
        self.name = name
        self.on_death = on_death
        self.asked_to_stop = False
        self.thread: threading.Thread | _Borrowed | None = None
        self.wake_now: Callable[[], None] = functools.partial(self.actor_inbox.put, _WAKE_ENVELOPE)
        """Has ``receive`` called; from any thread."""

    @property
    def log_extra(self) -> dict[str, Any]:
        """The fields of its log records."""
        return {}

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Start the actor's thread without registering the actor, unlike pykka's method."""
        actor = cls(*args, **kwargs)
        actor._start_actor_loop()
        return actor.actor_ref

    def begin(self) -> Self:
        """Start the thread of an actor that was constructed directly."""
        self._start_actor_loop()
        return self

    def run_here(self) -> None:
        """Run the actor on the calling thread until it is stopped, where no thread can be started."""
        self.actor_inbox.put(_BEGIN_ENVELOPE)
        self.thread = borrowed = _Borrowed()
        try:
            self._actor_loop()
        finally:
            borrowed.returned.set()

    def _start_actor_loop(self) -> None:
        # The start is a message like any other: pykka does not report a death in on_start.
        self.actor_inbox.put(_BEGIN_ENVELOPE)
        self.thread = threading.Thread(target=self._actor_loop, name=self.name, daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Have ``receive`` called; from any thread."""
        self.wake_now()

    def wake_at(self, due: float | None) -> None:
        """Have ``receive`` called at that time on the monotonic clock; None cancels. On its own thread."""
        self.actor_inbox.due = due

    def is_alive(self) -> bool:
        """Return whether the actor's thread runs and it has not been stopped."""
        return self.thread is not None and self.thread.is_alive() and not self.actor_stopped.is_set()

    def stop(self) -> None:
        """Stop the actor after its current message, without waiting; a second call does nothing."""
        if not self.asked_to_stop:
            self.asked_to_stop = True
            if self.is_alive():
                super().stop()

    def halt(self, timeout_s: float) -> bool:
        """Stop the actor after its current message; return whether it ended within ``timeout_s``."""
        self.stop()
        thread = self.thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(max(0.0, timeout_s))
        return not thread.is_alive()

    def _handle_receive(self, message: Any) -> Any:
        """Run ``begun`` or ``receive``; wraps a bare BaseException. Called by pykka."""
        if type(message) is not str:  # ours are strings: pykka's own method checks four other types first
            return super()._handle_receive(message)
        try:
            return self.begun() if message is _BEGIN else self.receive(message)
        except Exception:
            raise
        except BaseException as error:
            raise ActorCrashError(str(error)) from error

    def begun(self) -> None:
        """Run once at the start, on the actor's own thread."""

    def receive(self, message: Any) -> Any:
        """Process one message."""

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Log and report the actor's death; called by pykka."""
        crashed = isinstance(exception_value, ActorCrashError)
        error: BaseException = (exception_value.__cause__ if crashed else None) or exception_value
        log.error("%s died", self.name, exc_info=error, extra=self.log_extra)
        self.on_death(error)
