"""This module decides when a worker connects again, and tells once what keeps it from doing so."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from rambla_py.actors.attempt import RenewalError
from rambla_py.errors import AccessError, describe
from rambla_py.policy import RECONNECT, backoff_delay

if TYPE_CHECKING:
    from rambla_py.actors.target import Target

__all__ = ["Outage"]

log = logging.getLogger("rambla_py.worker")


class Outage:
    """What went wrong with a worker's connections, so far; ``until`` is when to connect again."""

    def __init__(self, target: Target, index: int) -> None:
        self.until = 0.0
        self.refused = False
        self._target, self._index = target, index
        self._failures = 0
        self._told = False
        self._ok_before = 0

    def over(self) -> None:
        """Take note of a connection; whether it is of use will show."""
        target = self._target
        self.refused = self._told = False
        self._ok_before = target.ledger.statuses["ok"]
        target.roster.trouble = None
        if target.events.listeners:
            target.events.emit("worker_up", target.service, target.channel, worker=self._index)

    def goes_on(self, error: BaseException) -> None:
        """Take note of a failed connect; a refusal of access is told although something else was before."""
        target, refused = self._target, isinstance(error, AccessError)
        target.ledger.note(f"connect:{type(error).__name__}", error)
        target.roster.trouble = error
        if not self._told or (refused and not self.refused):
            self._told = True
            log.log(
                logging.ERROR if refused else logging.WARNING,
                "%s: worker %d cannot connect, and goes on trying: %s",
                target.config.name,
                self._index,
                target.redact(describe(error)),
                extra={"rambla_service": target.service, "rambla_channel": target.channel},
            )
        self.refused = refused
        self._failures += 1
        self.until = time.monotonic() + backoff_delay(RECONNECT, self._failures, random.uniform(0.5, 1.0))

    def begins(self, error: BaseException) -> None:
        """Take note of a lost connection."""
        target = self._target
        if not isinstance(error, RenewalError):
            # A server that takes connections only to drop them gets more and more time.
            useful = target.ledger.statuses["ok"] > self._ok_before
            self._failures = 1 if useful else self._failures + 1
            self.until = time.monotonic() + backoff_delay(RECONNECT, self._failures, random.random())
            text = target.redact(describe(error))
            log.warning("%s: worker %d lost its connection: %s", target.config.name, self._index, text)
        if target.events.listeners:
            target.events.emit("worker_down", target.service, target.channel, worker=self._index, error=error)
