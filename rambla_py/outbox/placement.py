"""Where stored messages wait: in a mailbox, or in the journal only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.outbox.durable_target import stored_of

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outbox.feed import Feed
    from rambla_py.outbox.journal import Acceptance, Changes, Journal
    from rambla_py.outbox.rows import Row
    from rambla_py.outbox.same_ids import SameIds

__all__ = ["Placement"]


class Placement:
    """Puts stored deliveries into the mailboxes of their targets, or leaves them in the journal.

    Used by the writer of the journal only. ``look`` is called for rows that come back from a polled share.
    """

    def __init__(
        self, journal: Journal, feeds: Iterable[Feed], same_ids: SameIds, *, look: Callable[[], None]
    ) -> None:
        self._journal, self._same_ids, self._look = journal, same_ids, look
        self._feed_by_target: dict[Any, Feed] = {feed.target: feed for feed in feeds}

    def feed_of(self, delivery: LiveDelivery) -> Feed:
        """Return the feed of a delivery's target."""
        return self._feed_by_target[delivery.target]

    def choose_spilled(self, deliveries: Iterable[LiveDelivery], changes: Changes) -> set[str]:
        """Return the targets whose new rows stay in the journal for now, and record where that begins."""
        targets: list[Any] = [delivery.target for delivery in deliveries]
        spilled = set()
        for target in dict.fromkeys(targets):
            feed, number = self._feed_by_target[target], targets.count(target)
            if not feed.fits(number):
                spilled.add(feed.name)
                if not feed.spilling:
                    changes.cursors[self._journal.own, feed.name] = feed.last_resident
        return spilled

    def place(
        self,
        deliveries: Sequence[LiveDelivery],
        acceptance: Acceptance,
        spilled: set[str] | None,
        settled: Callable[[], object],
    ) -> None:
        """Place the deliveries of a call, in the order of their rows; ``settled`` is called after each.

        The rows of targets in ``spilled`` stay in the journal; with None, all of them, for other processes.
        """
        feed = self._mailbox_of_all(deliveries, acceptance, spilled)
        if feed is not None:
            _admit_all(feed, deliveries, acceptance.rows, settled)
            return
        duplicates = {id(row): status for row, status in acceptance.duplicates}
        for delivery in deliveries:
            if acceptance.error is None:
                row = stored_of(delivery).row
                if duplicates and id(row) in duplicates:
                    self._same_ids.settle_duplicate(delivery, row, duplicates[id(row)])
                else:
                    self._place_one(delivery, row, spilled)
            settled()

    def _mailbox_of_all(
        self, deliveries: Sequence[LiveDelivery], acceptance: Acceptance, spilled: set[str] | None
    ) -> Feed | None:
        """Return the feed whose mailbox all rows of a call go into as they are; None in any other case."""
        if not deliveries or spilled is None or acceptance.error is not None or acceptance.duplicates:
            return None
        feed, own = self._feed_by_target[deliveries[0].target], self._journal.own
        if feed.name in spilled or feed.target.observers.outbox:
            return None
        if [row for row in acceptance.rows if row.given_id or row.share != own or row.target != feed.name]:
            return None
        return feed

    def _place_one(self, delivery: LiveDelivery, row: Row, spilled: set[str] | None) -> None:
        feed = self.feed_of(delivery)
        feed.target.counters.store(row.seq)
        if spilled is None or row.share < 0:
            feed.target.admission.leave(delivery)
            if delivery.receipt is not None:
                delivery.receipt._keep(delivery.id)
        elif row.share != self._journal.own or feed.name in spilled:
            self.remember_id(row)
            feed.remember(row, delivery.receipt, delivery.slot)
            feed.target.admission.spill(delivery)
            self.leave_to_feeder(feed, row)
        else:
            self.remember_id(row)
            row.forget_payload()
            feed.last_resident = row.seq
            feed.target.admission.admit(delivery)
        if feed.target.observers.outbox:
            feed.observe("journaled", 1, (delivery.id,))

    def remember_id(self, row: Row) -> None:
        """Let later messages with the same given id share the outcome of this one."""
        if row.given_id:
            self._same_ids.add(row)

    def leave_to_feeder(self, feed: Feed, row: Row) -> None:
        """Leave a stored row in the journal until it is read."""
        if row.share != self._journal.own:
            self._look()
        elif not self._journal.spill((row,)):
            feed.spill((row,))


def _admit_all(
    feed: Feed, deliveries: Sequence[LiveDelivery], rows: Sequence[Row], settled: Callable[[], object]
) -> None:
    """Put deliveries into their mailbox: as ``_place_one``, at half the cost."""
    store, admit = feed.target.counters.store, feed.target.admission.admit
    for delivery, row in zip(deliveries, rows, strict=True):
        store(row.seq)
        row.forget_payload()
        feed.last_resident = row.seq
        admit(delivery)
        settled()
