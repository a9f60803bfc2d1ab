"""Leases of buckets: which share of a PostgreSQL journal this process delivers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable
from typing import Any, Final

import psycopg

from rambla_py.outbox.postgres.connection import fetch
from rambla_py.outbox.postgres.tables import BUCKETS
from rambla_py.outbox.rows import Row

__all__ = ["Held", "Leases"]

log = logging.getLogger("rambla_py.outbox")

_REMEMBERED_DEATHS: Final = 8

_NEED: Final = """
SELECT count(*) FILTER (WHERE until <= clock_timestamp()),
    (SELECT count(*) FROM rambla_relay WHERE until > clock_timestamp())
FROM rambla_bucket
"""
_TAKE: Final = """
WITH free AS (
    SELECT number, relay FROM rambla_bucket WHERE until <= clock_timestamp()
    ORDER BY number LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE rambla_bucket AS bucket
SET token = token + 1, relay = %s, until = clock_timestamp() + make_interval(secs => %s)
FROM free WHERE bucket.number = free.number
RETURNING bucket.number, bucket.token, free.relay
"""
_DIED: Final = f"""
UPDATE rambla_handed SET deaths = (upto || deaths)[1:{_REMEMBERED_DEATHS}], upto = 0
WHERE bucket = ANY(%s) AND upto > 0
"""
_DEATHS: Final = "SELECT bucket, target, deaths FROM rambla_handed WHERE bucket = ANY(%s) AND deaths <> '{}'"
_DEAD_RELAYS: Final = "SELECT number FROM rambla_relay WHERE until <= clock_timestamp()"
_RENEW: Final = """
UPDATE rambla_bucket AS bucket SET until = clock_timestamp() + make_interval(secs => %s)
FROM unnest(%s::smallint[], %s::bigint[]) AS held (number, token)
WHERE bucket.number = held.number AND bucket.token = held.token
RETURNING bucket.number
"""
_RENEW_RELAY: Final = """
INSERT INTO rambla_relay AS relay (number, until, idle)
VALUES (%s, clock_timestamp() + make_interval(secs => %s), %s)
ON CONFLICT (number) DO UPDATE SET until = excluded.until, idle = excluded.idle
"""
_RELEASE: Final = """
UPDATE rambla_bucket AS bucket SET relay = 0, until = '-infinity'
FROM unnest(%s::smallint[], %s::bigint[]) AS held (number, token)
WHERE bucket.number = held.number AND bucket.token = held.token
RETURNING bucket.number
"""
_NOT_DIED: Final = "UPDATE rambla_handed SET upto = 0 WHERE bucket = ANY(%s) AND upto > 0"


class Held:
    """A bucket that this process has: its token, the rows that were handed out, and up to where, by target.

    ``deaths`` has, by target, up to where the relays had come that died while they had the bucket.

    A bucket that is ``leaving`` is read no more; it is given back once no row of it is in this process.
    """

    __slots__ = ("cursors", "deaths", "leaving", "resident", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.deaths: dict[str, list[int]] = {}
        self.cursors: dict[str, int] = {}
        self.resident: set[int] = set()
        self.leaving = False


class Leases:
    """The buckets of one relay. Times are those of the database's clock."""

    def __init__(self, name: str, lease_s: float) -> None:
        self._name, self.lease_s = name, lease_s
        self.relay = 0
        self.held: dict[int, Held] = {}
        self.bucket_of: dict[int, int] = {}
        """The bucket of each row that was handed out and has not been removed."""
        self.lost_rows: set[int] = set()
        """Rows that were in this process when it lost their bucket, as far as they have not ended here."""
        self.shrank = False
        """Whether buckets were lost or given back that may have rows for which somebody waits here."""
        self._turn = 0
        self._dead_relays: set[int] = set()

    # -- what is held ---------------------------------------------------------------------------------

    def hand_out(self, bucket: int, seq: int) -> None:
        """Record that a row is in this process."""
        self.held[bucket].resident.add(seq)
        self.bucket_of[seq] = bucket

    def removed(self, seqs: Iterable[int]) -> None:
        """Record that rows are gone from the journal."""
        for seq in seqs:
            bucket = self.bucket_of.pop(seq, None)
            if bucket in self.held:
                self.held[bucket].resident.discard(seq)

    def token_of(self, seq: int) -> tuple[int, int] | None:
        """Return the bucket and the token under which a row was handed out; None if they are lost."""
        bucket = self.bucket_of.get(seq)
        return None if bucket is None or bucket not in self.held else (bucket, self.held[bucket].token)

    def crashes(self, row: Row, bucket: int, relay: int) -> int:
        """Return how many relays died while they had a row, which ``relay`` stored."""
        died = sum(row.seq <= upto for upto in self.held[bucket].deaths.get(row.target, ()))
        # Rows without a key were in the memory of the process that stored them.
        return died + (row.key is None and relay in self._dead_relays)

    def tokens(self) -> tuple[list[int], list[int]]:
        """Return the numbers and the tokens of what is held."""
        return list(self.held), [held.token for held in self.held.values()]

    def readable(self) -> list[int]:
        """Return the buckets to read, beginning with another one each time."""
        numbers = [number for number, held in self.held.items() if not held.leaving]
        if numbers:
            self._turn = (self._turn + 1) % len(numbers)
        return numbers[self._turn :] + numbers[: self._turn]

    def home(self) -> int | None:
        """Return a bucket for rows without a key; None while this process has none."""
        numbers = self.readable()
        return numbers[0] if numbers else None

    def forget(self, numbers: Collection[int]) -> None:
        """Forget buckets that are no longer held."""
        for number in numbers:
            held = self.held.pop(number, None)
            self.shrank = True
            for seq in held.resident if held is not None else ():
                self.bucket_of.pop(seq, None)

    def clear(self) -> None:
        """Forget all of them, as a forked child does."""
        self.relay = 0
        self.held.clear()
        self.bucket_of.clear()
        self.lost_rows.clear()

    # -- statements -----------------------------------------------------------------------------------

    def renew(self, connection: psycopg.Connection[Any], *, idle: bool) -> list[int]:
        """Extend the leases; return the buckets that another relay has by now, which are forgotten."""
        connection.execute(_RENEW_RELAY, (self.relay, self.lease_s, idle))
        kept = {number for (number,) in fetch(connection, _RENEW, self.lease_s, *self.tokens())}
        lost = [number for number in self.held if number not in kept]
        self.lost_rows.update(*(self.held[number].resident for number in lost))
        self.forget(lost)
        if lost:
            log.warning(
                "outbox %s: %d buckets were taken over by another relay, because their leases had lapsed; "
                "what is in flight of them may be delivered twice, with the same id",
                self._name,
                len(lost),
            )
        return lost

    def balance(self, connection: psycopg.Connection[Any]) -> list[int]:
        """Take free buckets up to a fair share, or give surplus ones back; return those that are new."""
        ((free, relays),) = fetch(connection, _NEED)
        share = -(-BUCKETS // max(1, relays))
        staying = [number for number, held in self.held.items() if not held.leaving]
        for number in staying[share:]:
            self.held[number].leaving = True
        self._give_back(connection)
        wanted = share - len(staying)
        if wanted <= 0:
            return []
        for number in itertools.islice([one for one, held in self.held.items() if held.leaving], wanted):
            self.held[number].leaving = False
            wanted -= 1
        return self._take(connection, min(wanted, free)) if wanted > 0 and free else []

    def _take(self, connection: psycopg.Connection[Any], number: int) -> list[int]:
        taken = fetch(connection, _TAKE, number, self.relay, self.lease_s)
        died = [bucket for bucket, _, former in taken if former]
        if died:
            connection.execute(_DIED, (died,))
        for bucket, token, _ in taken:
            self.held[bucket] = Held(token)
        for bucket, target, deaths in fetch(connection, _DEATHS, [bucket for bucket, _, _ in taken]):
            self.held[bucket].deaths[target] = deaths
        self._dead_relays = {number for (number,) in fetch(connection, _DEAD_RELAYS)}
        return [bucket for bucket, _, _ in taken]

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        leaving = [number for number, held in self.held.items() if held.leaving and not held.resident]
        if leaving:
            self.release(connection, leaving)

    def release(self, connection: psycopg.Connection[Any], numbers: Collection[int]) -> None:
        """Give buckets back, so that another relay need not wait for the leases to lapse."""
        tokens = [self.held[number].token for number in numbers]
        released = [number for (number,) in fetch(connection, _RELEASE, list(numbers), tokens)]
        connection.execute(_NOT_DIED, (released,))
        self.forget(numbers)
