"""This module is the actor that all of ours are: daemon thread, inbox with an alarm, a death that is told."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pykka
from pykka._envelope import Envelope

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
        # Looked up here and not at the import: gevent may have patched it in between.
        self._queue: queue.SimpleQueue[Envelope[Any]] = queue.SimpleQueue()
        self.put: Callable[[Envelope[Any]], None] = self._queue.put
        self.empty: Callable[[], bool] = self._queue.empty
        self.due: float | None = None

    def get(self) -> Envelope[Any]:
        """Wait for a message, or for the alarm."""
        if self.due is None:
            return self._queue.get()
        try:
            # To ask first without a wait is no luxury: a SimpleQueue whose lock happens to be free takes it,
            # looks at what is left of the timeout, and waits for ever when nothing is (CPython 3.11, 3.12).
            return self._queue.get_nowait()
        except queue.Empty:
            pass
        try:
            return self._queue.get(timeout=max(0.0, self.due - time.monotonic()))
        except queue.Empty:
            self.due = None
            return _TICK_ENVELOPE


class ActorCrashError(Exception):
    """Carries a BaseException out of an actor: pykka would stop every actor of the process for a bare one."""


class Actor(pykka.ThreadingActor):
    """A pykka actor without the traits that would harm a publisher.

    Its thread is a daemon, so a stuck handler cannot hang the exit. It stays out of pykka's registry, so
    that a ``BaseException`` in a stranger's actor, or ``ActorRegistry.stop_all()``, does not reach it. Its
    death is told to ``on_death``. It carries no payload in messages, so nothing is lost with its inbox.
    """

    use_daemon_thread = True
    actor_inbox: Inbox

    def __init__(self, name: str, on_death: OnDeath) -> None:
        super().__init__()
        self.name = name
        self._on_death = on_death
        self.thread: threading.Thread | None = None

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Start the actor's thread; unlike pykka's, without registering it."""
        actor = cls(*args, **kwargs)
        actor._start_actor_loop()
        return actor.actor_ref

    def begin(self) -> Self:
        """Start the thread of an actor made by its constructor."""
        self._start_actor_loop()
        return self

    def _start_actor_loop(self) -> None:
        # The beginning is a message as any other: pykka would not tell of a death in on_start.
        self.actor_inbox.put(_BEGIN_ENVELOPE)
        self.thread = threading.Thread(target=self._actor_loop, name=self.name, daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Make the actor look around; from any thread."""
        self.actor_inbox.put(_WAKE_ENVELOPE)

    def is_alive(self) -> bool:
        """Say whether the actor's thread runs and it has not been stopped."""
        return self.thread is not None and self.thread.is_alive() and not self.actor_stopped.is_set()

    def halt(self, timeout_s: float) -> bool:
        """Stop the actor after what it is doing now; say whether it ended within ``timeout_s``."""
        if self.is_alive():
            self.stop()
        thread = self.thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(max(0.0, timeout_s))
        return not thread.is_alive()

    def on_receive(self, message: Any) -> Any:
        """Run ``begun`` or ``receive``, and carry what is no Exception out as one; for pykka."""
        try:
            return self.begun() if message is _BEGIN else self.receive(message)
        except Exception:
            raise
        except BaseException as error:
            raise ActorCrashError(str(error)) from error

    def begun(self) -> None:
        """Do what comes first, on the actor's own thread."""

    def receive(self, message: Any) -> Any:
        """Take one message."""

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Tell of its death; for pykka."""
        crashed = isinstance(exception_value, ActorCrashError)
        error: BaseException = (exception_value.__cause__ if crashed else None) or exception_value
        log.error("%s died", self.name, exc_info=error)
        self._on_death(error)
