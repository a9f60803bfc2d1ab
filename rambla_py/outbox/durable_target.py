"""The outbox as one durable target sees it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py._internal.message_ids import draw_ids
from rambla_py.delivery import LiveDelivery
from rambla_py.delivery_history import Stored
from rambla_py.errors import RamblaError
from rambla_py.outbox.codec import is_native
from rambla_py.outbox.feed import ALONE_AFTER
from rambla_py.outbox.journal import Changes
from rambla_py.outbox.letters import letter_of
from rambla_py.outbox.row_of import decoded, row_of, rows_of
from rambla_py.outbox.rows import Progress, Row
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.outbox.feed import Feed
    from rambla_py.outbox.keeper import Keeper
    from rambla_py.outbox.pending import Pending
    from rambla_py.outbox.same_ids import SameIds
    from rambla_py.outcome import Outcome, Status

__all__ = ["DurableTarget", "stored_of"]

log = logging.getLogger("rambla_py.outbox")


class _Outbox(Protocol):
    same_ids: SameIds

    @property
    def pending(self) -> Pending: ...

    @property
    def keeper(self) -> Keeper: ...

    def accept(self, deliveries: Sequence[LiveDelivery], *, may_wait: bool) -> None: ...

    def hand_over(self, deliveries: Sequence[LiveDelivery], replaces: list[tuple[Row, Status]]) -> None: ...

    def mark(self, changes: Changes) -> None: ...

    def when_read(self, feed: Feed, read: Callable[[], None]) -> None: ...


class DurableTarget:
    """Stores the messages of one target in the outbox of its app, and records what becomes of them."""

    def __init__(self, outbox: _Outbox, feed: Feed) -> None:
        self._outbox, self._feed = outbox, feed
        self._pending, self._keeper = outbox.pending, outbox.keeper
        self._config = feed.target.config
        self.begins = self._config.on_unknown == "report"
        self._unburied: dict[int, LiveDelivery] = {}

    @property
    def dead_waiting(self) -> int:
        """How many fatal deliveries wait for their dead letters to be stored."""
        return len(self._unburied)

    def prepare(self, deliveries: Sequence[LiveDelivery], givens: Sequence[Mapping[str, Any]]) -> None:
        """Make the rows of deliveries; raises ``SerializationError`` and ``OptionError``."""
        draw_ids(deliveries)  # at once: the lock costs more than an id
        config, now = self._config, time.time()
        if deliveries and not any(givens):
            for delivery, row in zip(deliveries, rows_of(config, deliveries, now), strict=True):
                delivery.store(Stored(row))
            return
        for delivery, given in zip(deliveries, givens, strict=True):
            _prepare(config, delivery, given, now)

    def accept(self, deliveries: Sequence[LiveDelivery], *, may_wait: bool) -> None:
        """Store the deliveries of one call and admit them, or raise with nothing accepted."""
        self._outbox.accept(deliveries, may_wait=may_wait)

    def hand_over(
        self, origin: LiveDelivery, fallbacks: Sequence[LiveDelivery], fallback_of: str | None
    ) -> bool:
        """Store fallbacks of a delivery and admit them; its row ends in the same transaction."""
        # Not its id: it is no new message for the duplicate window.
        given = {"headers": origin.headers} if origin.headers else {}
        row, status = None if origin.stored is None else origin.stored.row, origin.status
        try:
            for fallback in fallbacks:
                _prepare(fallback.target.config, fallback, given, time.time(), fallback_of)
            replaces = [(row, status)] if row is not None and row.seq > 0 and status is not None else []
            self._outbox.hand_over(fallbacks, replaces)
        except RamblaError as error:
            extra = target_extra(self._config)
            reason = "a message is taken as a fallback without a row of its own"
            log.warning("%s: %s: %s", self._config.name, reason, error, extra=extra)
            return False
        if row is not None:
            row.leave()
        return True

    def when_read(self, read: Callable[[], None]) -> None:
        """Call ``read`` once what was stored so far for this process is accepted here."""
        self._outbox.when_read(self._feed, read)

    def begin(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Record that attempts begin; raises ``OutboxError``."""
        changes = Changes(started=[stored_of(one).row.seq for one in deliveries])
        for delivery in deliveries:
            stored = stored_of(delivery)
            if stored.crashes >= ALONE_AFTER:
                progress = _progress_of(delivery)
                progress.alone = True
                stored.row.progress = progress.dump()
                changes.progress[stored.row.seq] = (stored.row.progress, None, 0.0)
        self._outbox.mark(changes)

    def attempted(self, delivery: LiveDelivery, due: float | None) -> None:
        """Record an attempt without success at the next commit."""
        stored = stored_of(delivery)
        progress = _progress_of(delivery)
        if delivery.error is not None:
            progress.failed(time.time(), self._feed.target.error_text(delivery.error))
        stored.row.progress = progress.dump()
        wait_s = 0.0 if due is None else max(0.0, due - time.monotonic())
        at = None if due is None else time.time() + wait_s
        self._pending.progress(stored.row.seq, stored.row.progress, at, wait_s)
        self._keeper.notify(at_once=self._feed.attempted(stored))

    def ended(self, deliveries: Sequence[LiveDelivery], status: Status) -> None:
        """Remove the rows of deliveries that have ended at the next commit."""
        rows, alone = [], False
        for delivery in deliveries:
            if delivery.stored is not None:
                row = delivery.stored.row
                alone = self._feed.attempted(delivery.stored) or alone
                if row.seq > 0:  # not one that has become a dead letter, or fallbacks
                    rows.append((row, status))
                if row.given_id:
                    self._outbox.same_ids.share_outcome(delivery, row, status)
        self._pending.end(rows)
        self._keeper.notify(at_once=alone)

    def kept(self, delivery: LiveDelivery) -> None:
        """Write what the attempts of a delivery have come to, which stays in the outbox."""
        stored = stored_of(delivery)
        self._feed.attempted(stored)
        if delivery.maybe_sent:
            self._pending.progress(stored.row.seq, _progress_of(delivery).dump(), None, 0.0)

    def bury(self, delivery: LiveDelivery, proceed: Callable[[], None]) -> None:
        """Make a fatal delivery a dead letter, and end it once that is stored; an end sink."""
        succeeded = delivery.fallback is not None and delivery.fallback.succeeded
        # Without a number: its fallbacks have rows of their own, which may be dead letters.
        if delivery.stored is None or succeeded or delivery.stored.row.seq <= 0:
            proceed()
            return
        if delivery.fallback is not None and self._feed.target.state.closed:
            # The app stopped before the fallback had delivered it: the row stays for the next run.
            self._pending.progress(delivery.stored.row.seq, _progress_of(delivery).dump(), None, 0.0)
            delivery.stored.row.leave()
            proceed()
            return
        if delivery.status != "fatal" and not _failed_for_good(delivery.fallback):
            proceed()
            return
        letter, message_id = letter_of(self._feed.target, delivery), delivery.id
        seq = letter.row.seq
        self._unburied[seq] = delivery

        def buried() -> None:
            self._unburied.pop(seq, None)
            self._feed.observe("dead", 1, (message_id,))
            proceed()

        def kept() -> None:
            self._unburied.pop(seq, None)
            if delivery.receipt is not None:
                delivery.receipt._keep(message_id)

        self._pending.bury(letter, buried, kept)
        self._keeper.notify(at_once=True)


def _failed_for_good(fallback: Outcome | None) -> bool:
    """Return whether the last fallback failed for good; its message has no other row."""
    while fallback is not None and fallback.fallback is not None:
        fallback = fallback.fallback
    return fallback is not None and fallback.status == "fatal"


def _prepare(
    config: ChannelConfig,
    delivery: LiveDelivery,
    given: Mapping[str, Any],
    now: float,
    fallback_of: str | None = None,
) -> None:
    native = is_native(delivery.payload)
    row = row_of(config, delivery, given, now, native=native)
    if row.form == "value" and not native:
        delivery.reread(decoded(row))
    if fallback_of is not None:
        row.progress = Progress(fallback_of=fallback_of).dump()
    delivery.store(Stored(row, fallback_of=fallback_of))


def stored_of(delivery: LiveDelivery) -> Stored:
    """Return what the outbox knows of a durable delivery."""
    stored = delivery.stored
    assert stored is not None
    return stored


def _progress_of(delivery: LiveDelivery) -> Progress:
    """Return the progress of a delivery, with what was stored of earlier attempts."""
    progress = Progress.load(stored_of(delivery).row.progress)
    progress.attempts, progress.failures = delivery.attempts, delivery.failures
    progress.left, progress.rounds = delivery.left, delivery.rounds
    progress.maybe_sent = delivery.maybe_sent
    progress.alone = False
    return progress
