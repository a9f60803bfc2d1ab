"""A journal in a PostgreSQL database, which relays share by leases of buckets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import psycopg

from rambla_py._internal.redaction import redact_url
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.journal import Acceptance, Account, Changes, Share, Totals
from rambla_py.outbox.postgres.connection import JournalConnection, fetch
from rambla_py.outbox.postgres.leases import Leases
from rambla_py.outbox.postgres.listener import Listener
from rambla_py.outbox.postgres.migration import are_made, make_tables
from rambla_py.outbox.postgres.reading import Reading
from rambla_py.outbox.postgres.tables import BUCKETS
from rambla_py.outbox.postgres.writing import OWN, POLLED, Writing
from rambla_py.outbox.room import CommitRoom
from rambla_py.outbox.rows import Row
from rambla_py.outcome import Status

__all__ = ["PostgresJournal"]

log = logging.getLogger("rambla_py.outbox")

_COUNTS: Final = """
SELECT target, count(*), max(seq) FROM rambla_message WHERE bucket = ANY(%s) GROUP BY target
"""
# Every row was counted as accepted under its target.
_OTHERS: Final = """
SELECT target FROM (
    SELECT target FROM rambla_account UNION SELECT target FROM rambla_accepted
) AS known
WHERE target <> ALL(%s) AND EXISTS (
    SELECT FROM rambla_message AS message WHERE message.target = known.target AND bucket = ANY(%s)
)
"""
_POLLS_BETWEEN_LOOKS: Final = 10
_KEPT: Final = "SELECT seq FROM rambla_message WHERE seq = ANY(%s) AND bucket = ANY(%s)"
# Rows of the accounts of relays that have gone become those of relay 0.
_FOLD: Final = """
WITH gone AS (
    DELETE FROM rambla_account AS account
    WHERE relay <> 0 AND NOT EXISTS (SELECT FROM rambla_relay WHERE number = account.relay)
    RETURNING target, name, count
)
INSERT INTO rambla_account AS account (target, relay, name, count)
SELECT target, 0, name, sum(count) FROM gone GROUP BY target, name
ON CONFLICT (target, relay, name) DO UPDATE SET count = account.count + excluded.count
"""
_FORGET_RELAYS: Final = "DELETE FROM rambla_relay WHERE until < clock_timestamp() - interval '1 day'"
_LEDGER: Final = """
SELECT target, name, sum(count)::bigint FROM (
    SELECT target, name, count FROM rambla_account UNION ALL SELECT target, name, count FROM rambla_accepted
) AS counts GROUP BY target, name
UNION ALL SELECT target, 'pending', count(*) FROM rambla_message GROUP BY target
UNION ALL SELECT target, 'dead', count(*) FROM rambla_dead GROUP BY target
"""
_TOTALS: Final = """
SELECT (SELECT count(*) FROM rambla_message), (SELECT count(*) FROM rambla_dead),
    (SELECT min(accepted) FROM rambla_message),
    pg_total_relation_size('rambla_message') + pg_total_relation_size('rambla_dead'),
    (SELECT count(*) FROM rambla_relay WHERE until > clock_timestamp())
"""
# Space that removed rows have left is used again, but not given back: it does not count.
_BYTES: Final = "SELECT coalesce(sum(octet_length(payload) + 200), 0) FROM rambla_message"


class PostgresJournal:
    """Stores the rows of an outbox in a PostgreSQL database, where several relays deliver them.

    A relay leases a fair share of the 64 buckets for ``lease_s`` seconds of the database's clock, and renews
    the leases at a third of that. It removes a row only while it has the lease under which the row was
    handed out: ``lease_lost`` counts the removals that were refused. Each row is handed out once: ``read``
    leaves out those that are in this process, and finds rows that were committed late within ``poll_s``.

    ``wake`` is called from another thread when a transaction stored rows while this relay was idle.
    """

    polls = True
    finds_duplicates = False

    def __init__(
        self,
        url: str,
        *,
        dedup_window_s: float = 86_400.0,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        poll_s: float = 1.0,
        lease_s: float = 30.0,
        test_s: float = 10.0,
        room_check_s: float = 1.0,
        read_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = redact_url(url)
        self.own = 0
        self.wake: Callable[[], None] = _sleep_on
        self.lease_lost = 0
        self._lost: list[Row] = []
        self._max_bytes, self._max_rows, self._monotonic = max_bytes, max_rows, monotonic
        self._room_check_s, self._poll_s = room_check_s, poll_s
        self._connection = JournalConnection(url, self.name, read_timeout_s=read_timeout_s)
        self._leases = Leases(self.name, lease_s)
        self._writing = Writing(self._leases, dedup_window_s=dedup_window_s, clock=clock)
        self._reading = Reading(self._leases, poll_s=poll_s, monotonic=monotonic)
        self._listener = Listener(url, self.name, self._woken, test_s=test_s, read_timeout_s=read_timeout_s)
        self._renewed_at = self._checked_at = self._looked_at = -float("inf")
        self._idle = self._found_rows = False
        self._last_room: CommitRoom | None = None

    # -- life -----------------------------------------------------------------------------------------

    def open(self, *, delivers: bool) -> None:
        """Connect, make the tables where there are none; with ``delivers``, become a relay."""
        with self._connection.using() as connection:
            made = are_made(connection, self.name)
        if not made:
            with self._connection.writing() as connection:
                make_tables(connection, self.name)
        if delivers:
            self._become_relay()

    def _become_relay(self) -> None:
        with self._connection.writing() as connection:
            connection.execute(
                "INSERT INTO rambla_bucket (number) SELECT generate_series(0, %s) ON CONFLICT DO NOTHING",
                (BUCKETS - 1,),
            )
            connection.execute(_FORGET_RELAYS)
            connection.execute(_FOLD)
            register = """
                INSERT INTO rambla_relay (until) VALUES (clock_timestamp() + make_interval(secs => %s))
                RETURNING number
            """
            ((relay,),) = fetch(connection, register, self._leases.lease_s)
        self._leases.relay, self.own = relay, OWN
        self._listener.start()

    def close(self) -> None:
        """Give the buckets back, and disconnect. What cannot be given back lapses by itself."""
        try:
            self._listener.stop()
            if self._leases.relay:
                with self._connection.writing() as connection:
                    self._writing.add_up(connection)
                    self._leases.release(connection, list(self._leases.held))
                    connection.execute("DELETE FROM rambla_relay WHERE number = %s", (self._leases.relay,))
        except OutboxError as error:
            log.warning("%s; its buckets are free when their leases have lapsed", error)
        finally:
            self._leases.clear()
            self.own = 0
            self._connection.close()

    def _woken(self) -> None:
        self.wake()

    # -- writing --------------------------------------------------------------------------------------

    def write(self, acceptances: Sequence[Acceptance], changes: Changes) -> None:
        """Store new rows, and apply changes, in one transaction."""
        stored: list[tuple[Row, int]] = []
        try:
            self._write(acceptances, changes, stored)
        except OutboxError as error:
            if error.applied == "unknown":
                self._reading.doubt(row for one in acceptances for row in one.rows)
            raise
        for row, bucket in stored:
            if row.share == OWN:
                self._leases.hand_out(bucket, row.seq)

    def _write(
        self, acceptances: Sequence[Acceptance], changes: Changes, stored: list[tuple[Row, int]]
    ) -> None:
        if not (acceptances or changes.ended or changes.dead or changes.progress or changes.started):
            return  # up to where rows were handed out is recorded as they are read
        replaced: list[tuple[Row, Status]] = []
        with self._connection.writing() as connection:
            self._renew_after_pause(connection)
            refused = self._writing.apply(connection, changes)
            if acceptances:
                stored += self._writing.accept(connection, acceptances, self._room(connection))
                # Not those of a call that is refused: nothing would be left of their messages.
                replaced = [end for one in acceptances if one.error is None for end in one.replaces]
                refused |= self._writing.apply(connection, Changes(ended=replaced))
        ended = [row for row, _ in (*changes.ended, *replaced)] + [letter.row for letter in changes.dead]
        self._leases.removed(row.seq for row in ended)
        self._leases.lost_rows.difference_update(row.seq for row in ended)
        if refused:
            self._count_refused([row for row in ended if row.seq in refused])

    def _renew_after_pause(self, connection: psycopg.Connection[Any]) -> None:
        if self._monotonic() > self._renewed_at + self._leases.lease_s and self._leases.held:
            self._leases.renew(connection, idle=False)  # another relay may have them
            self._renewed_at = self._monotonic()

    def spill(self, rows: Sequence[Row]) -> bool:
        """Hand rows out again by ``read``, as those of other processes."""
        self._reading.take_back(rows)
        return True

    def _count_refused(self, rows: list[Row]) -> None:
        self.lease_lost += len(rows)
        self._lost += rows
        self._renewed_at = -float("inf")  # what is lost is found by the next claim
        log.warning(
            "outbox %s: %d removals came after the lease was lost, and were not made: another relay "
            "delivers these messages again, with the same ids",
            self.name,
            len(rows),
        )

    def _room(self, connection: psycopg.Connection[Any]) -> CommitRoom:
        """Return the room that is left: looked up now and then, and each time while it is full."""
        now, last = self._monotonic(), self._last_room
        if last is None or last.was_full or now >= self._checked_at + self._room_check_s:
            self._checked_at = now
            last = self._last_room = self._looked_up_room(connection)
        return last

    def _looked_up_room(self, connection: psycopg.Connection[Any]) -> CommitRoom:
        rows = size = 0
        if self._max_rows is not None:
            query = "SELECT count(*) FROM (SELECT FROM rambla_message LIMIT %s) AS message"
            rows = fetch(connection, query, self._max_rows)[0][0]
        if self._max_bytes is not None:
            size = fetch(connection, "SELECT pg_total_relation_size('rambla_message')")[0][0]
            if size >= self._max_bytes:
                size = fetch(connection, _BYTES)[0][0]
        return CommitRoom(self.name, rows=rows, max_rows=self._max_rows, size=size, max_bytes=self._max_bytes)

    # -- shares ---------------------------------------------------------------------------------------

    def claim(self) -> list[Share]:
        """Renew the leases, take free buckets up to a fair share; return the polled share if it has grown."""
        if not self._leases.relay or self._connection.was_forked:
            return []
        idle, self._found_rows = not self._found_rows, False
        due = self._monotonic() >= self._renewed_at + self._leases.lease_s / 3
        before = list(self._leases.held)
        try:
            with self._connection.writing() as connection:
                if due or idle != self._idle:
                    self._leases.renew(connection, idle=idle)
                new = self._leases.balance(connection)
                if due:
                    self._writing.add_up(connection)
        except BaseException:
            # What was taken is rolled back, and the next relay that takes it gets the same token.
            self._leases.forget(self._leases.held.keys() - before)
            raise
        self._idle = idle
        if due:
            self._renewed_at = self._monotonic()
        if new:
            self._looked_at = -float("inf")  # they may have rows for other targets
        return [Share(POLLED)] if new else []

    def release(self, share: int) -> bool:
        """Keep the share: it gets new rows at any time."""
        return False

    def lost(self) -> list[Row]:
        """Return the rows whose removal was refused since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def elsewhere(self, seqs: Collection[int]) -> set[int]:
        """Return those of rows whose bucket this relay has no longer; none unless it has fewer of them."""
        if not seqs or not self._leases.shrank:
            return set()
        with self._connection.using() as connection:
            kept = fetch(connection, _KEPT, list(seqs), list(self._leases.held))
        self._leases.shrank = False
        return set(seqs) - {seq for (seq,) in kept}

    # -- reading --------------------------------------------------------------------------------------

    def read(self, share: int, target: str, after: int, limit: int) -> list[Row]:
        """Return rows of the leased buckets for a target that are not in this process yet.

        Rows of a key are in order. ``after`` is not looked at: rows may come late.
        """
        if share != POLLED or not self._leases.held:
            return []
        with self._connection.using() as connection:
            self._renew_after_pause(connection)
            rows = self._reading.read(connection, target, limit)
        self._found_rows = self._found_rows or bool(rows)
        return rows

    def look_again(self) -> None:
        """Look for late rows at the next ``read`` of each target."""
        self._reading.look_again()

    def counts(self, share: int) -> dict[str, tuple[int, int]]:
        """Return, by target, how many rows the buckets of this relay have."""
        if share != POLLED:
            return {}
        with self._connection.using() as connection:
            found = fetch(connection, _COUNTS, list(self._leases.held))
        return {target: (count, last) for target, count, last in found}

    def others(self, targets: Collection[str]) -> list[str]:
        """Return what other targets the buckets have rows for; looked for at every tenth poll."""
        now = self._monotonic()
        if now < self._looked_at + _POLLS_BETWEEN_LOOKS * self._poll_s or not self._leases.held:
            return []
        self._looked_at = now
        with self._connection.using() as connection:
            found = fetch(connection, _OTHERS, list(targets), list(self._leases.held))
        return [target for (target,) in found]

    def accounts(self) -> dict[str, Account]:
        """Return the account of every target."""
        return self.ledger()[0]

    def ledger(self) -> tuple[dict[str, Account], int | None]:
        """Return the accounts; PostgreSQL counts no rows by itself."""
        accounts: dict[str, Account] = {}
        with self._connection.using() as connection:
            for target, name, count in fetch(connection, _LEDGER):
                setattr(accounts.setdefault(target, Account()), name, count)
        return accounts, None

    def log_bytes(self) -> int:
        """Return 0: the log is the server's."""
        return 0

    def totals(self) -> Totals:
        """Return what the journal holds; owners are the relays."""
        with self._connection.using() as connection:
            ((rows, dead, oldest, size, relays),) = fetch(connection, _TOTALS)
        return Totals(
            rows=rows,
            dead=dead,
            oldest=oldest,
            file_bytes=size,
            log_bytes=0,
            owners_alive=relays,
            owners_adopted=0,
        )


def _sleep_on() -> None:
    """Do nothing for a notification: polling finds the rows."""
