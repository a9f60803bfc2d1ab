"""The outbox of one app in one process: durable messages are stored, delivered, and removed."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from rambla_py.errors import NotRunningError, RamblaError
from rambla_py.outbox.durable_target import DurableTarget, stored_of
from rambla_py.outbox.errors import OutboxBusyError, OutboxError, OutboxFullError
from rambla_py.outbox.feed import Feed
from rambla_py.outbox.feeder import Feeder
from rambla_py.outbox.journal import Acceptance, Changes, Journal
from rambla_py.outbox.keeper import Keeper
from rambla_py.outbox.letters import SetAsideError
from rambla_py.outbox.log_watch import LogWatch
from rambla_py.outbox.pending import Pending
from rambla_py.outbox.placement import Placement
from rambla_py.outbox.read_requests import ReadRequests
from rambla_py.outbox.same_ids import SameIds
from rambla_py.outbox.writer import Writer
from rambla_py.runtime.target.shutdown import drop_waiting
from rambla_py.runtime.worker_threads import must_not_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rambla_py.config.schema import OutboxSettings
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outbox.rows import Row
    from rambla_py.outcome import Status
    from rambla_py.runtime.target.target import Target

__all__ = ["Outbox"]

log = logging.getLogger("rambla_py.outbox")

_ROWS = 500
_FULL_POLL_S = 0.05


class _Entry(msgspec.Struct, eq=False):
    """What one thread waits for: the rows of a call, or a mark on rows."""

    deliveries: Sequence[LiveDelivery]
    acceptance: Acceptance
    changes: Changes | None = None


class Outbox:
    """Keeps the messages of the durable targets of one app in a journal, and delivers what is there.

    ``targets`` are all of the app. ``start`` takes over what earlier runs left, before the app runs.
    ``close`` writes what is pending and lets go of the journal.
    """

    def __init__(self, journal: Journal, settings: OutboxSettings, targets: Iterable[Target]) -> None:
        self.journal, self.settings = journal, settings
        self.pending = Pending()
        self.same_ids = SameIds(remembers=not journal.finds_duplicates)
        by_name = {target.config.name: target for target in targets}
        self._feeds = {name: Feed(target) for name, target in by_name.items() if _is_durable(target)}
        self._feeder = Feeder(journal, self._feeds, by_name.keys())
        self._placement = Placement(journal, self._feeds.values(), self.same_ids, look=self._look)
        self._writer: Writer[_Entry] = Writer(
            self._commit,
            expected=RamblaError,
            busy=lambda: OutboxBusyError(journal.name, "this thread was interrupted while it was writing"),
            interrupted=lambda: OutboxError(journal.name, "the commit was interrupted", applied="unknown"),
            most=_ROWS,
        )
        self.keeper = Keeper(self, poll_s=settings.poll_s)
        self.written_at = 0.0
        self._closed = False
        self._reads = ReadRequests()
        self._unread = False
        self._takes = True
        self._log_watch = LogWatch(journal)
        # What is being written, until it is admitted: after an error it may be in the journal all the same.
        self._unsettled: deque[LiveDelivery] = deque()
        for feed in self._feeds.values():
            durable = DurableTarget(self, feed)
            feed.target.make_durable(durable)
            feed.target.completion.end_sinks.add(durable.bury)

    @property
    def delivers(self) -> bool:
        """Whether this process delivers what is in the outbox."""
        return self.settings.deliver

    # -- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the journal, and begin to deliver what earlier runs left. Raises ``OutboxError``."""
        try:
            self.journal.open(delivers=self.delivers)
            if self.delivers:
                self.journal.wake = self._look
                with self._writer.role():
                    self._feeder.claim()
                    self._feeder.feed(polled=True, reads=1)
                self.keeper.start()
        except BaseException:
            self.keeper.stop()
            with suppress(OutboxError):  # the shares are free then, whatever else fails
                self.journal.close()
            raise

    def close(self) -> None:
        """Write what is pending, and let go of the journal; what is not delivered stays there.

        A publisher that comes later gets ``NotRunningError``: nothing would deliver its rows.
        """
        self.keeper.stop()
        with self._writer.role():
            self._closed = True
            for feed in self._feeds.values():
                feed.keep(feed.awaited)
            try:
                self._write_pending()
            except OutboxError as error:
                log.error("%s; what was delivered since the last commit will be delivered again", error)
                self.pending.give_up()
            self.same_ids.keep_all()
            self._reads.give_up()
            try:
                self.journal.close()
            except OutboxError as error:
                log.error("%s; the next process counts this stop as a crash", error)

    def take_no_more(self) -> None:
        """Leave in the journal what is not in flight, and what comes from now on; for a relay that stops."""
        with self._writer.role():
            self._takes = False
        for feed in self._feeds.values():
            drop_waiting(feed.target)

    # -- publishing -----------------------------------------------------------------------------------

    def accept(self, deliveries: Sequence[LiveDelivery], *, may_wait: bool) -> None:
        """Store the deliveries of one call and admit them, or raise with nothing accepted."""
        if self.delivers:
            self.keeper.start()
        deadline = None
        while True:
            try:
                self._submit(deliveries)
            except OutboxFullError:
                now = time.monotonic()
                deadline = deadline or now + self._patience_s(deliveries, may_wait=may_wait)
                if now >= deadline:
                    raise
                self.keeper.wait_for_removal(min(_FULL_POLL_S, deadline - now))
            else:
                return

    def hand_over(self, deliveries: Sequence[LiveDelivery], replaces: list[tuple[Row, Status]]) -> None:
        """Store fallback deliveries in place of the rows that end, and admit them; raises ``OutboxError``."""
        self._submit(deliveries, replaces)

    def when_read(self, feed: Feed, read: Callable[[], None]) -> None:
        """Call ``read`` once all rows that are stored so far for this process are counted as accepted."""
        if not self.delivers or self._writer.is_mine:  # a signal handler would wait for its own thread
            read()
            return
        self.keeper.start()
        self._reads.add(feed, read)
        self._look()
        if self._closed or not self.keeper.runs:
            self._reads.give_up()

    def mark(self, changes: Changes) -> None:
        """Write changes now, on this thread or with another one's commit; raises ``OutboxError``."""
        self._writer.submit(_Entry((), Acceptance([]), changes))

    def deliver_stored(self, store: Callable[[int], Sequence[Row]]) -> None:
        """Call ``store`` with the share of this process, and deliver the rows that it has stored there.

        They are not held up by those of others: ``store`` is called by the writer. Raises what it raises.
        """
        if not self.delivers:
            store(0)
            return
        with self._writer.role():
            self._settle()
            rows = store(0 if self._closed else self.journal.own)
            handed: dict[tuple[int, str], int | None] = {}
            for row in rows:
                if row.share != self.journal.own:
                    self._look()  # it is read, and counted, as one of another process
                    continue
                feed = self._feeds[row.target]
                if not feed.spilling:
                    handed[self.journal.own, feed.name] = feed.last_resident
                feed.target.counters.store(row.seq)
                feed.target.counters.spill(1)
                self._placement.leave_to_feeder(feed, row)
            if handed:
                # Those that stay in the journal for want of room are found as such if this process dies.
                self.journal.write((), Changes(cursors=handed))
            self._feed()

    def _submit(
        self, deliveries: Sequence[LiveDelivery], replaces: Sequence[tuple[Row, Status]] = ()
    ) -> None:
        rows = [delivery.stored.row for delivery in deliveries if delivery.stored is not None]
        acceptance = Acceptance(rows, replaces=list(replaces))
        self._writer.submit(_Entry(deliveries, acceptance), len(deliveries))
        if acceptance.error is not None:
            raise acceptance.error

    def _patience_s(self, deliveries: Sequence[LiveDelivery], *, may_wait: bool) -> float:
        configs = [self._placement.feed_of(delivery).target.config for delivery in deliveries]
        if not may_wait or must_not_wait() or any(config.overflow != "block" for config in configs):
            return 0.0
        return max(config.publish_timeout_s for config in configs)

    def _commit(self, entries: Sequence[_Entry]) -> None:
        """Store the rows of all entries; runs on the thread of one of them."""
        if self._closed:
            raise NotRunningError("stopped")
        self._settle()
        taken_at = time.monotonic()
        changes = self.pending.take()
        for entry in entries:
            self._unsettled.extend(entry.deliveries)
        spilled = self._placement.choose_spilled(self._unsettled, changes) if self.delivers else None
        acceptances = [entry.acceptance for entry in entries if entry.deliveries]
        marks = [entry.changes for entry in entries if entry.changes is not None]
        self.journal.write(acceptances, changes.merged(marks) if marks else changes)
        self._removed(changes)
        for entry in entries:
            self._placement.place(entry.deliveries, entry.acceptance, spilled, self._unsettled.popleft)
        self.pending.written()
        self.written_at = taken_at
        if spilled:
            self.keeper.notify()

    def _settle(self) -> None:
        """Find what was stored by a commit that raised, and leave it to the feeder.

        Nothing was promised for it, but it is there, and it must be delivered before what comes after it.
        """
        while self._unsettled:
            delivery = self._unsettled[0]
            row = stored_of(delivery).row
            feed = self._placement.feed_of(delivery)
            admitted = delivery.admitted or feed.covers(row) or not self.delivers
            if not admitted and self._is_stored(row):
                feed.target.counters.store(row.seq)
                self._placement.remember_id(row)
                if not delivery.spilled:
                    feed.target.admission.spill(delivery)
                self._placement.leave_to_feeder(feed, row)
            self._unsettled.popleft()

    def _is_stored(self, row: Row) -> bool:
        if row.seq <= 0 or row.share != self.journal.own:
            return False
        found = self.journal.read(row.share, row.target, row.seq - 1, 1)
        return bool(found) and (found[0].seq, found[0].id) == (row.seq, row.id)

    # -- the keeper's work ----------------------------------------------------------------------------

    def work(self, *, claim: bool) -> None:
        """Write what is pending, take over what others left, feed the mailboxes; raises ``OutboxError``."""
        with self._writer.role():
            if self._closed:
                return
            self._settle()
            self._write_pending()
            asked = self._reads.new
            if asked:
                self.journal.look_again()
            if (claim or asked) and self._takes:
                self._feeder.release()
                self._feeder.claim()
                self._keep_elsewhere()
            self._reads.begin(asked)
            unread, self._unread = self._unread, False
            self._feed(polled=claim or unread or self._reads.begun or self._feeder.has_more)
            (self._reads.answer if self._takes else self._reads.give_up)()

    def end_old(self) -> None:
        """Make dead letters of waiting messages that are older than ``max_age_s``."""
        max_age_s = self.settings.max_age_s
        if max_age_s is None:
            return
        for feed in self._feeds.values():
            for delivery in feed.target.mailbox.take_accepted_before(time.monotonic() - max_age_s):
                reason = f"older than max_age_s = {max_age_s:g}"
                feed.target.completion.finish(delivery, "fatal", SetAsideError("too old", reason))

    def watch_log(self, now: float) -> None:
        """Log a warning when the log of the journal stays long."""
        self._log_watch.look(now)

    @property
    def hungry(self) -> bool:
        """Whether rows wait for a mailbox that has room."""
        return self._feeder.hungry or self._unread

    def _feed(self, *, polled: bool = False) -> None:
        if self._takes:
            self._feeder.feed(polled=polled)

    def _look(self) -> None:
        """Let the keeper look for new rows in the polled shares soon; from any thread."""
        self._unread = True
        self.keeper.notify(at_once=True)

    def _write_pending(self) -> None:
        changes = self.pending.take()
        if changes:
            self.journal.write((), changes)
            self._removed(changes)
            self.pending.written()

    def _keep_elsewhere(self) -> None:
        awaited = {feed: feed.awaited for feed in self._feeds.values()}
        elsewhere = self.journal.elsewhere([seq for seqs in awaited.values() for seq in seqs])
        if elsewhere:
            for feed, seqs in awaited.items():
                feed.keep(elsewhere.intersection(seqs))

    def _removed(self, changes: Changes) -> None:
        """Forget the ids of removed rows; report the messages that another process delivers as well."""
        given = [row for row, _ in changes.ended if row.given_id]
        if given:
            self.same_ids.removed(given)
        for row in self.journal.lost():
            feed = self._feeds.get(row.target)
            if feed is not None:
                feed.observe("lease_lost", 1, (row.id,))


def _is_durable(target: Target) -> bool:
    return target.config.durable and target.config.enabled
