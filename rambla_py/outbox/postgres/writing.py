"""What a PostgreSQL journal writes: new rows, removals, dead letters, progress."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psycopg

from rambla_py.outbox.digests import digest_of
from rambla_py.outbox.errors import DuplicateIdError, OutboxFullError
from rambla_py.outbox.journal import Acceptance, Changes
from rambla_py.outbox.postgres.buckets import any_bucket, bucket_of
from rambla_py.outbox.postgres.connection import fetch
from rambla_py.outbox.postgres.leases import Leases
from rambla_py.outbox.postgres.tables import CHANNEL
from rambla_py.outbox.room import CommitRoom
from rambla_py.outbox.rows import Letter, Row
from rambla_py.outcome import Status

__all__ = ["ELSEWHERE", "OWN", "POLLED", "Writing", "letter_columns", "store", "wake"]

OWN: Final = 1
"""The share of rows that this process stored, and hands out itself."""
POLLED: Final = 0
"""The share of rows in the buckets of this relay, which come back from ``read``."""

ELSEWHERE: Final = -1
"""The share of rows that another relay delivers."""

# Numbers are given in the order of the array, and returned by number.
_INSERT: Final = """
WITH arrived AS (
    INSERT INTO rambla_message (bucket, relay, target, id, key, accepted, due, wait_s, options, form,
        payload, crc, given_id, progress)
    SELECT bucket, %s, target, id, key, accepted, due, wait_s, options, form, payload, crc, given_id, progress
    FROM unnest(%s::smallint[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::float8[],
        %s::bytea[], %s::text[], %s::bytea[], %s::bigint[], %s::boolean[], %s::bytea[]) WITH ORDINALITY
        AS given (bucket, target, id, key, accepted, due, wait_s, options, form, payload, crc, given_id,
            progress, place)
    ORDER BY place
    RETURNING seq, target
), counted AS (
    INSERT INTO rambla_accepted (target, count) SELECT target, count(*) FROM arrived GROUP BY target
)
SELECT seq FROM arrived ORDER BY seq
"""
_WAKE: Final = f"""
SELECT pg_notify('{CHANNEL}', '')
FROM (SELECT FROM rambla_relay WHERE idle AND number <> %s LIMIT 1) AS sleeper
"""
_SEE: Final = """
INSERT INTO rambla_seen AS old (target, id, digest, mark)
SELECT target, id, digest, %s FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS given (target, id, digest)
ON CONFLICT (target, id) DO UPDATE SET
    digest = CASE WHEN old.until <= %s THEN excluded.digest ELSE old.digest END,
    mark = CASE WHEN old.until <= %s THEN excluded.mark ELSE old.mark END,
    status = CASE WHEN old.until <= %s THEN NULL ELSE old.status END,
    until = CASE WHEN old.until <= %s THEN NULL ELSE old.until END
RETURNING target, id, digest, status, mark
"""
_FORGET: Final = """
DELETE FROM rambla_seen AS seen USING unnest(%s::text[], %s::text[]) AS given (target, id)
WHERE seen.target = given.target AND seen.id = given.id AND seen.mark = %s
"""
_DUPLICATES: Final = """
INSERT INTO rambla_accepted (target, name, count)
SELECT target, 'duplicates', count(*) FROM unnest(%s::text[]) AS given (target) GROUP BY target
"""
# A row is removed only while its bucket has the token under which it was handed out; what is counted, and
# recorded in the duplicate window, is what was removed. The array leaves the planner one way to find the
# rows: it took all those of the buckets otherwise, for 1.6 s among 300,000.
_GONE: Final = """
WITH given AS (
    SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::bigint[], %s::text[])
        AS given (seq, bucket, token, status)
), held AS (
    SELECT given.seq FROM given JOIN rambla_bucket AS bucket
    ON bucket.number = given.bucket AND bucket.token = given.token
), gone AS (
    DELETE FROM rambla_message WHERE seq = ANY(ARRAY(SELECT seq FROM held)) RETURNING *
), counted AS (
    INSERT INTO rambla_account AS account (target, relay, name, count)
    SELECT target, %s, status, count(*) FROM gone JOIN given USING (seq) GROUP BY target, status
    ON CONFLICT (target, relay, name) DO UPDATE SET count = account.count + excluded.count
)"""
_LOST = "SELECT seq FROM given WHERE seq NOT IN (SELECT seq FROM held)"
_REMOVE: Final = f"""{_GONE}, lapsing AS (
    UPDATE rambla_seen AS seen SET status = given.status, until = %s
    FROM gone JOIN given USING (seq)
    WHERE gone.given_id AND seen.target = gone.target AND seen.id = gone.id
)
{_LOST}"""
_BURY: Final = f"""{_GONE}, buried AS (
    INSERT INTO rambla_dead (seq, target, id, key, accepted, options, form, payload, crc, given_id, progress,
        relay, died, reason, error, errors, handler, fingerprint, attempts, replayed)
    SELECT gone.seq, gone.target, gone.id, gone.key, gone.accepted, gone.options, gone.form, gone.payload,
        gone.crc, gone.given_id, letter.progress, gone.relay, letter.died, letter.reason, letter.error,
        letter.errors, letter.handler, letter.fingerprint, letter.attempts, letter.replayed
    FROM gone JOIN unnest(%s::bigint[], %s::bytea[], %s::float8[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::integer[], %s::integer[]) AS letter (seq, progress, died, reason, error,
            errors, handler, fingerprint, attempts, replayed) ON letter.seq = gone.seq
)
{_LOST}"""
# The bucket is looked up for each row: joined, the planner would begin with the rows of the buckets.
_MINE: Final = "(SELECT relay FROM rambla_bucket WHERE number = message.bucket) = %s"
_PROGRESS: Final = f"""
UPDATE rambla_message AS message
SET progress = given.progress, due = given.due, wait_s = given.wait_s
FROM unnest(%s::bigint[], %s::bytea[], %s::float8[], %s::float8[]) AS given (seq, progress, due, wait_s)
WHERE message.seq = given.seq AND message.seq = ANY(%s) AND {_MINE}
"""
_STARTED: Final = f"""
UPDATE rambla_message AS message SET started = true WHERE message.seq = ANY(%s) AND {_MINE}
"""
# Rows that are locked are added up another time.
_ADD_UP: Final = """
WITH gone AS (
    DELETE FROM rambla_accepted WHERE ctid = ANY(
        ARRAY(SELECT ctid FROM rambla_accepted LIMIT 20000 FOR UPDATE SKIP LOCKED)
    )
    RETURNING target, name, count
)
INSERT INTO rambla_account AS account (target, relay, name, count)
SELECT target, %s, name, sum(count) FROM gone GROUP BY target, name
ON CONFLICT (target, relay, name) DO UPDATE SET count = account.count + excluded.count
"""


class Writing:
    """The statements of one relay's commits."""

    def __init__(self, leases: Leases, *, dedup_window_s: float, clock: Callable[[], float]) -> None:
        self._leases, self._dedup_window_s, self._clock = leases, dedup_window_s, clock

    # -- new rows -------------------------------------------------------------------------------------

    def accept(
        self, connection: psycopg.Connection[Any], acceptances: Sequence[Acceptance], room: CommitRoom
    ) -> list[tuple[Row, int]]:
        """Store the rows of calls; return those that were stored, with their buckets.

        ``error`` is set of a call that is refused. Rows that are stored already need no room.
        """
        if any(row.given_id for one in acceptances for row in one.rows):
            self._set_duplicates_aside(connection, acceptances, room)
        else:
            for one in acceptances:
                _take_room(one, one.rows, room)
        rows = [row for one in acceptances if one.error is None for row in one.rows]
        if not rows:
            return []
        home = self._leases.home()
        buckets = [self._place(row, home) for row in rows]
        store(connection, self._leases.relay, rows, buckets)
        if any(row.share == ELSEWHERE for row in rows):
            wake(connection, self._leases.relay)
        return list(zip(rows, buckets, strict=True))

    def _place(self, row: Row, home: int | None) -> int:
        """Choose the bucket of a new row, and set its share.

        Rows with a key are handed out as they are read: those of other processes may be before them.
        """
        if row.key is None:
            row.share = ELSEWHERE if home is None else OWN
            return any_bucket() if home is None else home
        bucket = bucket_of(row.key)
        row.share = POLLED if bucket in self._leases.held else ELSEWHERE
        return bucket

    def _set_duplicates_aside(
        self, connection: psycopg.Connection[Any], acceptances: Sequence[Acceptance], room: CommitRoom
    ) -> None:
        """Remove the rows that are stored already; refuse calls with an id of another payload."""
        given: dict[tuple[str, str], bytes] = {}
        for one in acceptances:
            for row in one.rows:
                if row.given_id:
                    given.setdefault((row.target, row.id), digest_of(row))
        # In one order in all processes, so that none waits for the other.
        places = sorted(given)
        mark, now = secrets.randbits(63), self._clock()
        targets, ids = [target for target, _ in places], [message_id for _, message_id in places]
        digests = [given[place] for place in places]
        found = fetch(connection, _SEE, mark, targets, ids, digests, now, now, now, now)
        known = {(target, id_): (digest, status, its == mark) for target, id_, digest, status, its in found}
        first: set[tuple[str, str]] = set()
        for one in acceptances:
            self._judge(one, known, first, room)
        unused = [place for place, (_, _, is_new) in known.items() if is_new and place not in first]
        if unused:
            places_of = [target for target, _ in unused], [message_id for _, message_id in unused]
            connection.execute(_FORGET, (*places_of, mark))
        duplicates = [row.target for one in acceptances for row, _ in one.duplicates]
        if duplicates:
            connection.execute(_DUPLICATES, (duplicates,))

    def _judge(
        self,
        one: Acceptance,
        known: Mapping[tuple[str, str], tuple[bytes, Status | None, bool]],
        first: set[tuple[str, str]],
        room: CommitRoom,
    ) -> None:
        """Divide the rows of a call into new ones and duplicates, or refuse it as a whole."""
        duplicates: list[tuple[Row, Status | None]] = []
        mine: set[tuple[str, str]] = set()
        for row in one.rows:
            if not row.given_id:
                continue
            place = (row.target, row.id)
            digest, status, is_new = known[place]
            if bytes(digest) != digest_of(row):
                one.error = DuplicateIdError(*place)
                return
            if is_new and place not in first and place not in mine:
                mine.add(place)
            else:
                duplicates.append((row, status))
        aside = {id(row) for row, _ in duplicates}
        rows = [row for row in one.rows if id(row) not in aside]
        if _take_room(one, rows, room):
            first |= mine
            one.duplicates, one.rows = duplicates, rows

    # -- changes --------------------------------------------------------------------------------------

    def apply(self, connection: psycopg.Connection[Any], changes: Changes) -> set[int]:
        """Apply changes; return the rows whose removal was refused, because another relay has them."""
        ended = [row.seq for row, _ in changes.ended] + [letter.row.seq for letter in changes.dead]
        lost = self._leases.lost_rows.intersection(ended)
        if changes.progress:
            columns = zip(*changes.progress.values(), strict=True)
            seqs = list(changes.progress)
            connection.execute(_PROGRESS, (seqs, *map(list, columns), seqs, self._leases.relay))
        if changes.started:
            connection.execute(_STARTED, (changes.started, self._leases.relay))
        if changes.dead:
            gone = self._given([(letter.row, "fatal") for letter in changes.dead])
            found = fetch(connection, _BURY, *gone, *letter_columns(changes.dead))
            lost.update(seq for (seq,) in found)
        if changes.ended:
            until = self._clock() + self._dedup_window_s
            found = fetch(connection, _REMOVE, *self._given(changes.ended), until)
            lost.update(seq for (seq,) in found)
        return lost

    def _given(self, ended: Sequence[tuple[Row, Status]]) -> tuple[Any, ...]:
        """Return the parameters of a removal; rows of buckets that are lost are not among them."""
        placed = [(row.seq, self._leases.token_of(row.seq), status) for row, status in ended]
        kept = [(seq, *place, status) for seq, place, status in placed if place is not None]
        columns = [[one[at] for one in kept] for at in range(4)]
        return (*columns, self._leases.relay)

    def add_up(self, connection: psycopg.Connection[Any]) -> None:
        """Add what transactions have accepted to the account of this relay."""
        connection.execute(_ADD_UP, (self._leases.relay,))


def _take_room(one: Acceptance, rows: Sequence[Row], room: CommitRoom) -> bool:
    """Take the room of the new rows of a call, or refuse it; return whether there was room."""
    try:
        room.take(rows, len(one.replaces))
    except OutboxFullError as error:
        one.error = error
    return one.error is None


def store(
    connection: psycopg.Connection[Any], relay: int, rows: Sequence[Row], buckets: Sequence[int]
) -> None:
    """Store rows in buckets, and set their ``seq``; they count as accepted."""
    found = fetch(connection, _INSERT, relay, *_columns(rows, buckets))
    for row, (seq,) in zip(rows, found, strict=True):
        row.seq = seq


def wake(connection: psycopg.Connection[Any], relay: int) -> None:
    """Notify the idle relays other than ``relay`` of new rows, if there is one."""
    connection.execute(_WAKE, (relay,))


def _columns(rows: Sequence[Row], buckets: Sequence[int]) -> tuple[Sequence[Any], ...]:
    return (
        buckets,
        [row.target for row in rows],
        [row.id for row in rows],
        [row.key for row in rows],
        [row.accepted for row in rows],
        [row.due for row in rows],
        [row.wait_s for row in rows],
        [row.options for row in rows],
        [row.form for row in rows],
        [row.payload for row in rows],
        [row.crc for row in rows],
        [row.given_id for row in rows],
        [row.progress for row in rows],
    )


def letter_columns(letters: Sequence[Letter]) -> tuple[list[Any], ...]:
    """Return what letters have beside their rows, as columns."""
    return (
        [letter.row.seq for letter in letters],
        [letter.row.progress for letter in letters],
        [letter.died for letter in letters],
        [letter.reason for letter in letters],
        [_without_nul(letter.error) for letter in letters],
        [json.dumps(letter.errors) for letter in letters],
        [letter.handler for letter in letters],
        [letter.fingerprint for letter in letters],
        [letter.attempts for letter in letters],
        [letter.replayed for letter in letters],
    )


def _without_nul(text: str) -> str:
    """Return text that PostgreSQL stores: without NUL and lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
