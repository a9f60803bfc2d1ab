"""Rows that are in the journal only, handed to the mailboxes of their targets."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rambla_py.outbox.journal import Changes, Journal, Share
from rambla_py.outbox.letters import letter_without_target
from rambla_py.outbox.restored import restored

if TYPE_CHECKING:
    from rambla_py.outbox.feed import Feed, Source
    from rambla_py.outbox.rows import Row

__all__ = ["Feeder"]

log = logging.getLogger("rambla_py.outbox")

_ROWS = 500
_READS = 20
"""How often a target is read in one turn: others write in between."""


class Feeder:
    """Takes over the shares of the journal, and hands their rows out; used by the writer of the journal only.

    ``known`` has the names of all configured targets: the rows of those without a feed, which are disabled
    or not durable, stay where they are. After an ``OutboxError`` from any of its methods, the next call
    continues where it was.
    """

    def __init__(self, journal: Journal, feeds: Mapping[str, Feed], known: Collection[str]) -> None:
        self._journal, self._feeds, self._known = journal, feeds, known
        self._left: set[str] = set()
        self._new: deque[Share] = deque()
        self._adopted: set[int] = set()

    @property
    def hungry(self) -> bool:
        """Whether rows wait for a mailbox that has room."""
        return self.has_more or any(feed.spilling and feed.low for feed in self._feeds.values())

    @property
    def has_more(self) -> bool:
        """Whether a polled share had more rows than there was room for, and there is room now."""
        return any(feed.low and feed.unread for feed in self._feeds.values())

    def claim(self) -> None:
        """Take over what processes that have ended left, and set aside what no channel here can deliver."""
        self._new.extend(self._journal.claim())
        while self._new:
            self._take_over(self._new[0])
            self._new.popleft()
        for name in self._journal.others(self._feeds.keys()):
            if name in self._known:
                self._leave(name)
            else:
                self._set_aside(Share(0), name)

    def release(self) -> None:
        """Let go of adopted shares whose rows have all ended."""
        waiting = {source.share for feed in self._feeds.values() for source in feed.sources}
        for share in self._adopted - waiting:
            if self._journal.release(share):
                self._adopted.discard(share)

    def feed(self, *, polled: bool = False, reads: int = _READS) -> None:
        """Hand rows out as far as there is room; with ``polled``, also those of processes that only write.

        Each target is read so many times at most, although its workers may make room as fast.
        """
        for feed in self._feeds.values():
            left = reads
            while feed.sources and left and not feed.target.state.closed:
                source = feed.sources[0]
                if not self._hand_out(feed, source):
                    break
                left -= 1
                if source.exhausted:
                    feed.sources.popleft()
            if polled:
                for source in feed.polled.values():
                    while left and not feed.target.state.closed and self._hand_out(feed, source):
                        left -= 1

    def _take_over(self, share: Share) -> None:
        if share.number == 0:  # its rows are not counted: there may be a million
            for feed in self._feeds.values():
                feed.adopt(share, None)
            return
        found = self._journal.counts(share.number)
        for name in found.keys() - self._feeds.keys():
            if name in self._known:
                self._leave(name)
            else:
                self._set_aside(share, name)
        for name in found.keys() & self._feeds.keys():
            number, last = found[name]
            feed = self._feeds[name]
            feed.adopt(share, last, number)
            feed.observe("adopted", number)
        self._adopted.add(share.number)

    def _leave(self, name: str) -> None:
        if name not in self._left:
            self._left.add(name)
            log.warning(
                "outbox %s: %s has messages, but is disabled or not durable: they are kept, and delivered "
                "once it is enabled and durable",
                self._journal.name,
                name,
                extra=_extra_of(name),
            )

    def _set_aside(self, share: Share, name: str) -> None:
        """Make dead letters of rows whose channel is gone from the configuration."""
        after = number = 0
        while rows := self._journal.read(share.number, name, after, _ROWS):
            with self._given_back(deque(rows)):
                self._journal.write((), Changes(dead=[letter_without_target(row) for row in rows]))
            after, number = rows[-1].seq, number + len(rows)
        log.error(
            "outbox %s: %d messages for %s, which is not in the configuration, are dead letters now; "
            "send them elsewhere with: rambla dead replay --channel %s --to CHANNEL",
            self._journal.name,
            number,
            name,
            name,
            extra=_extra_of(name),
        )

    def _restore(self, feed: Feed, source: Source, row: Row) -> None:
        adoption = source.adoption
        if source.last is None and not row.mine:
            adoption = feed.target.counters.adopt(1)
        if not source.adopted:
            feed.last_resident = row.seq
        receipt, slot = feed.recall(row.seq)
        # Before it is delivered, and one by one: an error must not skip the rows that follow.
        source.after = row.seq
        restored(feed, row, source, adoption, receipt, slot)

    @contextmanager
    def _given_back(self, rows: deque[Row]) -> Iterator[None]:
        """Let rows be read again that are left when the block raises."""
        try:
            yield
        except BaseException:
            self._journal.spill(rows)
            raise

    def _hand_out(self, feed: Feed, source: Source) -> bool:
        """Hand out rows of a source as far as there is room; return whether there may be more."""
        room = min(feed.target.mailbox.free_places(), _ROWS)
        if room <= 0 or feed.alone is not None:
            source.more = True
            return False
        found = self._journal.read(source.share, feed.name, source.after, room)
        rows = feed.next_of(source, found)
        if len(rows) < len(found):
            self._journal.spill(found[len(rows) :])
        source.more = len(found) >= room or len(rows) < len(found)
        if not rows:
            if source.last is None:
                return False
            source.after = source.last
            return True
        upto = rows[-1].seq
        own_ends = not source.adopted and source.last is not None and upto >= source.last
        # Recorded before they are handed out: a row that ends the process must be found as one that was.
        handed = {(source.share, feed.name): None if own_ends else upto}
        left = deque(rows)
        with self._given_back(left):
            self._journal.write((), Changes(cursors=handed))
            while left:
                self._restore(feed, source, left.popleft())
        others = sum(not row.mine for row in rows)
        if source.last is None and others:
            feed.observe("adopted", others)
        return True


def _extra_of(name: str) -> dict[str, str]:
    """Return the fields of a record about a target that may not be in the configuration."""
    service, _, channel = name.partition(".")
    return {"rambla_service": service, "rambla_channel": channel}
