"""The thread of an outbox: it writes when nothing is published, and feeds the mailboxes."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.pending import Pending

__all__ = ["Keeper"]

log = logging.getLogger("rambla_py.outbox")

_DELAY_S = 0.05
"""Longest time that a removal waits for a publisher to take it along."""
_RETRY_S = 1.0
_QUIET_S = 10.0
_JOIN_S = 5.0


class _Work(Protocol):
    @property
    def pending(self) -> Pending: ...

    @property
    def hungry(self) -> bool: ...

    @property
    def written_at(self) -> float: ...

    def work(self, *, claim: bool) -> None: ...

    def end_old(self) -> None: ...

    def watch_log(self, now: float) -> None: ...


class Keeper:
    """Runs the work of an outbox on a daemon thread: soon after something is pending, and each ``poll_s``."""

    def __init__(self, outbox: _Work, *, poll_s: float) -> None:
        self._outbox, self._poll_s = outbox, poll_s
        self._wake = threading.Event()
        self._removed = threading.Event()
        self._asleep = True
        self._at_once = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        # Reentrant: a signal handler may publish while its own thread holds it.
        self._lock = threading.RLock()
        self._logged_at = -_QUIET_S

    def start(self) -> None:
        """Start the thread if it does not run. An ending interpreter starts none; ``close`` does the rest."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="rambla outbox", daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except BaseException as error:
                    if thread.ident is None:
                        self._thread = None
                    if not isinstance(error, RuntimeError):  # an interruption
                        raise

    @property
    def runs(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and not self._stopping

    def stop(self) -> None:
        """Let the thread end, and wait for it."""
        with self._lock:
            self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def notify(self, *, at_once: bool = False) -> None:
        """Record that something is pending; from any thread, cheap."""
        if at_once:
            self._at_once = True
        if self._asleep or at_once:
            self._asleep = False
            self._wake.set()

    def wait_for_removal(self, timeout_s: float) -> None:
        """Wait until the thread has written something, but not longer."""
        self._removed.clear()
        self.notify(at_once=True)
        self._removed.wait(timeout_s)

    def _run(self) -> None:
        next_claim = time.monotonic() + self._poll_s
        retry_at = 0.0
        while not self._stopping:
            self._asleep = True
            if not self._outbox.pending:
                self._wake.wait(max(0.0, self._pause_s(next_claim)))
            self._wake.clear()
            if self._stopping:
                return
            self._leave_to_publishers(next_claim)
            self._at_once = False
            now = time.monotonic()
            if now < retry_at:
                self._wake.wait(retry_at - now)
                continue
            claim = now >= next_claim
            if claim:
                next_claim = now + self._poll_s
            if claim or self._outbox.pending or self._outbox.hungry:
                retry_at = now + _RETRY_S if not self._worked(claim=claim) else 0.0

    def _leave_to_publishers(self, until: float) -> None:
        """Wait for as long as each commit of a publisher takes along what is pending."""
        began = time.monotonic()
        while self._outbox.pending and not (self._at_once or self._stopping or self._outbox.hungry):
            wait_until = min(max(began, self._outbox.written_at) + _DELAY_S, until)
            wait_s = wait_until - time.monotonic()
            if wait_s <= 0:
                return
            self._wake.wait(wait_s)
            self._wake.clear()

    def _pause_s(self, next_claim: float) -> float:
        return min(_DELAY_S if self._outbox.hungry else self._poll_s, next_claim - time.monotonic())

    def _worked(self, *, claim: bool) -> bool:
        try:
            self._outbox.work(claim=claim)
            if claim:
                self._outbox.end_old()
                self._outbox.watch_log(time.monotonic())
        except OutboxError as error:
            if time.monotonic() - self._logged_at > _QUIET_S:
                self._logged_at = time.monotonic()
                log.error("%s; it is tried again every second", error)
            return False
        except Exception:
            log.exception("the outbox failed; it is tried again every second")
            return False
        self._removed.set()
        return True
