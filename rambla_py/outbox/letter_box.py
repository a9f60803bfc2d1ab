"""Dead letters of channels that are not durable: stored as well as possible, by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rambla_py.config.conversion import holds_secret
from rambla_py.config.options import declared
from rambla_py.errors import OptionError, PermanentError, SerializationError
from rambla_py.outbox.dead import DeadLetters, letter_from
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.row_of import row_of
from rambla_py.outbox.rows import Letter, Progress
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.target import Target

__all__ = ["LetterBox"]

log = logging.getLogger("rambla_py.outbox")

_MOST_WAITING: Final = 10_000
_GROUP: Final = 500
_RETRY_S: Final = 1.0
_JOIN_S: Final = 5.0
_QUIET_S: Final = 10.0


class LetterBox:
    """Stores the dead letters of targets with ``dead_letters = true`` that are not durable.

    A receipt does not wait for that. What cannot be stored is tried again every second until the app stops;
    what is lost then, for want of room, or because it cannot be stored at all, is counted as
    ``dead_letter_lost`` among the reasons of its target, and logged.
    """

    def __init__(self, letters: DeadLetters, targets: Iterable[Target]) -> None:
        self._letters = letters
        self._waiting: deque[tuple[Target, Letter]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._logged_at = -_QUIET_S
        for target in targets:
            target.completion.end_sinks.add(self._sink_of(target))

    def close(self) -> None:
        """Store what waits, once, and disconnect."""
        with self._lock:
            self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():  # it waits for the disk, and loses nothing itself
                log.error("%d dead letters may be lost: to store them takes too long", len(self._waiting))
                return
        self._store()
        for target, letter in self._waiting:
            self._lose(target, letter.row.id, "it could not be stored until the app stopped")
        self._letters.close()

    def _sink_of(self, target: Target) -> Callable[[LiveDelivery, Callable[[], None]], None]:
        def take(delivery: LiveDelivery, proceed: Callable[[], None]) -> None:
            rescued = delivery.fallback is not None and delivery.fallback.succeeded
            if delivery.status == "fatal" and not rescued:
                self._take(target, delivery)
            proceed()

        return take

    def _take(self, target: Target, delivery: LiveDelivery) -> None:
        try:
            letter = _letter(target, delivery)
        except (OptionError, SerializationError) as error:
            self._lose(target, delivery.id, str(error))
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._lose(target, delivery.id, f"{_MOST_WAITING:,} wait to be stored")
            return
        self._waiting.append((target, letter))
        self._start()
        self._wake.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="rambla dead letters", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending: ``close`` stores them
                    return
                self._thread = thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while not self._store() and not self._stopping:
                self._wake.wait(_RETRY_S)
                self._wake.clear()

    def _store(self) -> bool:
        """Store what waits; return whether nothing is left."""
        while self._waiting:
            group = [self._waiting[at] for at in range(min(_GROUP, len(self._waiting)))]
            try:
                self._letters.add([letter for _, letter in group])
            except OutboxError as error:
                if time.monotonic() - self._logged_at > _QUIET_S:
                    self._logged_at = time.monotonic()
                    log.error("%s; %d dead letters wait to be stored", error, len(self._waiting))
                return False
            for _ in group:
                self._waiting.popleft()
        return True

    def _lose(self, target: Target, message_id: str, reason: str) -> None:
        target.counters.note("dead_letter_lost")
        extra = {**target_extra(target.config), "rambla_message_id": message_id}
        log.error(
            "%s: the dead letter of %s is lost: %s", target.config.name, message_id, reason, extra=extra
        )


def _letter(target: Target, delivery: LiveDelivery) -> Letter:
    """Return the dead letter of a delivery that is not in the outbox; raises as ``row_of`` does."""
    now = time.time()
    accepted = now - (time.monotonic() - delivery.accepted_at)
    row = row_of(target.config, delivery, _given(target.config, delivery), accepted)
    row.due, row.wait_s, row.given_id = None, 0.0, False
    error = delivery.error or PermanentError("no reason was given")
    text = target.error_text(error)
    progress = Progress(attempts=delivery.attempts, maybe_sent=delivery.maybe_sent)
    progress.failed(now, text)
    row.progress = progress.dump()
    handler = target.config.handler.__name__
    return letter_from(row, progress, error=error, text=text, handler=handler, died=now)


def _given(config: ChannelConfig, delivery: LiveDelivery) -> dict[str, Any]:
    """Return the options of a delivery that are not those of its channel; secrets are left out."""
    own = config.headers or {}
    headers = {name: value for name, value in delivery.headers.items() if own.get(name) != value}
    given: dict[str, Any] = {"headers": headers} if headers else {}
    if isinstance(delivery.options, Mapping):
        base = config.options or {}
        return given | {name: value for name, value in delivery.options.items() if base.get(name) != value}
    for name, field in declared(config.handler).items():
        value = getattr(delivery.options, field.attribute, msgspec.UNSET)
        if value != getattr(config.options, field.attribute, msgspec.UNSET) and not holds_secret(field.type):
            given[name] = value
    return given
