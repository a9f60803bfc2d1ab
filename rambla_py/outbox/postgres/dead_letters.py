"""The dead letters of a PostgreSQL journal."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg

from rambla_py._internal.redaction import redact_url
from rambla_py.outbox.dead import Group, Reason, Selected, Selection
from rambla_py.outbox.digests import digest_of
from rambla_py.outbox.postgres.buckets import any_bucket, bucket_of
from rambla_py.outbox.postgres.connection import JournalConnection, fetch
from rambla_py.outbox.postgres.writing import ELSEWHERE, letter_columns, store, wake
from rambla_py.outbox.rows import Letter, Row

__all__ = ["PostgresDeadLetters"]

_REMEMBERED_S: Final = 30 * 86_400.0
"""For how long a letter is known as replayed, rather than as gone."""

_ANY_RELAY: Final = 0

_CONDITIONS: Final = {
    "ids": "id = ANY(%(ids)s)",
    "group": "starts_with(fingerprint, %(group)s)",
    "channel": "(target = %(channel)s OR substr(target, strpos(target, '.') + 1) = %(channel)s)",
    "since": "died >= %(since)s",
    "until": "died < %(until)s",
    "error": "strpos(lower(error), lower(%(error)s)) > 0",
}
_SELECT: Final = "SELECT seq, id FROM rambla_dead WHERE {} ORDER BY seq"
_GROUPS: Final = """
WITH found AS (
    SELECT fingerprint, target, count(*) AS count, min(died) AS first, max(died) AS last,
        max(seq) AS newest, count(*) FILTER (WHERE replayed > 0) AS replayed
    FROM rambla_dead WHERE {} GROUP BY fingerprint, target
)
SELECT found.fingerprint, found.count, found.target, dead.error, first, last, found.replayed
FROM found JOIN rambla_dead AS dead ON dead.seq = newest
ORDER BY found.count DESC, last DESC, found.fingerprint
"""
_READ: Final = """
SELECT seq, target, id, key, accepted, options, form, payload, crc, given_id, progress, died, reason, error,
    errors, handler, fingerprint, attempts, replayed
FROM rambla_dead WHERE seq = ANY(%s) ORDER BY seq
"""
_THERE: Final = "SELECT seq FROM rambla_dead WHERE seq = ANY(%s)"
_REPLAYED: Final = "SELECT letter, id FROM rambla_replayed WHERE letter = ANY(%s) OR id = ANY(%s)"
# In one order in all processes, so that none waits for the other.
_TAKE: Final = """
DELETE FROM rambla_dead WHERE seq IN (SELECT seq FROM rambla_dead WHERE seq = ANY(%s) ORDER BY seq FOR UPDATE)
RETURNING seq, target, id, given_id
"""
_RECORD: Final = """
INSERT INTO rambla_replayed (letter, id, at) SELECT letter, id, %s FROM unnest(%s::bigint[], %s::text[])
    AS given (letter, id)
ON CONFLICT (letter) DO NOTHING
"""
_FORGET: Final = "DELETE FROM rambla_replayed WHERE at < %s"
_COUNT: Final = """
INSERT INTO rambla_accepted (target, name, count)
SELECT target, %s, count FROM unnest(%s::text[], %s::bigint[]) AS given (target, count)
"""
# By way of the rows, so that their numbers are used for nothing else.
_BURY: Final = """
WITH gone AS (DELETE FROM rambla_message WHERE seq = ANY(%s) RETURNING *)
INSERT INTO rambla_dead (seq, target, id, key, accepted, options, form, payload, crc, given_id, progress,
    relay, died, reason, error, errors, handler, fingerprint, attempts, replayed)
SELECT gone.seq, gone.target, gone.id, gone.key, gone.accepted, gone.options, gone.form, gone.payload,
    gone.crc, gone.given_id, letter.progress, gone.relay, letter.died, letter.reason, letter.error,
    letter.errors, letter.handler, letter.fingerprint, letter.attempts, letter.replayed
FROM gone JOIN unnest(%s::bigint[], %s::bytea[], %s::float8[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::integer[], %s::integer[]) AS letter (seq, progress, died, reason, error, errors, handler,
        fingerprint, attempts, replayed) ON letter.seq = gone.seq
"""
_LAPSE: Final = """
UPDATE rambla_seen AS seen SET status = 'fatal', until = %s
FROM unnest(%s::text[], %s::text[]) AS given (target, id)
WHERE seen.target = given.target AND seen.id = given.id
"""
_SEE: Final = """
INSERT INTO rambla_seen (target, id, digest, mark)
SELECT target, id, digest, 0 FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS given (target, id, digest)
ON CONFLICT (target, id) DO UPDATE SET status = NULL, until = NULL
"""

_Taken = tuple[int, str, str, bool]


class PostgresDeadLetters:
    """The dead letters in the database of a journal, on a connection of its own.

    A replayed row goes to the bucket of its key, or to any; the relay that has the bucket delivers it.
    """

    def __init__(
        self,
        url: str,
        *,
        dedup_window_s: float = 86_400.0,
        read_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = redact_url(url)
        self._connection = JournalConnection(url, self.name, read_timeout_s=read_timeout_s)
        self._dedup_window_s, self._clock = dedup_window_s, clock

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    # -- reading --------------------------------------------------------------------------------------

    def select(self, selection: Selection) -> Selected:
        """Return the letters that match at this moment."""
        where, values = _condition(selection)
        with self._connection.using() as connection:
            letters = dict(connection.execute(_SELECT.format(where).encode(), values).fetchall())
            as_of = self._clock()
            absent = sorted(set(selection.ids) - set(letters.values()))
            known = {id_ for _, id_ in fetch(connection, _REPLAYED, [], absent)} if absent else set()
        missing = {id_: _reason(id_ in known) for id_ in dict.fromkeys(selection.ids) if id_ in absent}
        return Selected(as_of, letters, missing)

    def groups(self, selection: Selection) -> list[Group]:
        """Return the letters that match, by channel and kind of error; the largest group first."""
        where, values = _condition(selection)
        with self._connection.using() as connection:
            found = connection.execute(_GROUPS.format(where).encode(), values).fetchall()
        return [
            Group(
                fingerprint=name,
                count=count,
                channel=channel,
                error=error,
                first_at=first,
                last_at=last,
                replayed=replayed,
            )
            for name, count, channel, error, first, last, replayed in found
        ]

    def read(self, numbers: Sequence[int]) -> list[Letter]:
        """Return the letters with these numbers that are there, in order."""
        with self._connection.using() as connection:
            return [_letter(found) for found in fetch(connection, _READ, list(numbers))]

    def absent(self, numbers: Sequence[int]) -> dict[int, Reason]:
        """Return why letters with these numbers are not there; those that are there are left out."""
        with self._connection.using() as connection:
            there = {number for (number,) in fetch(connection, _THERE, list(numbers))}
            known = {number for number, _ in fetch(connection, _REPLAYED, list(numbers), [])}
        return {one: _reason(one in known) for one in numbers if one not in there}

    # -- writing --------------------------------------------------------------------------------------

    def move(self, moves: Sequence[tuple[int, Row]]) -> list[int]:
        """Replace letters with rows, in one transaction; return the numbers of those that were not there."""
        now = self._clock()
        with self._connection.writing() as connection:
            taken = _take(connection, [number for number, _ in moves])
            there = [(taken[number], row) for number, row in moves if number in taken]
            if there:
                rows = [row for _, row in there]
                for row in rows:
                    row.share = ELSEWHERE
                buckets = [any_bucket() if row.key is None else bucket_of(row.key) for row in rows]
                store(connection, _ANY_RELAY, rows, buckets)
                wake(connection, _ANY_RELAY)
                _count(connection, "replayed", [target for (_, target, _, _), _ in there])
                letters = [number for (number, _, _, _), _ in there]
                connection.execute(_RECORD, (now, letters, [row.id for row in rows]))
                elsewhere = [(old, row) for old, row in there if old[3] and old[1] != row.target]
                self._lapse(connection, [old for old, _ in elsewhere], now)
                _see(connection, [row for _, row in elsewhere])
            connection.execute(_FORGET, (now - _REMEMBERED_S,))
        return [number for number, _ in moves if number not in taken]

    def add(self, letters: Sequence[Letter]) -> None:
        """Store the letters of messages that were not in the journal, in one transaction."""
        rows = [letter.row for letter in letters]
        with self._connection.writing() as connection:
            store(connection, _ANY_RELAY, rows, [any_bucket() for _ in rows])
            connection.execute(_BURY, ([row.seq for row in rows], *letter_columns(letters)))
            _count(connection, "fatal", [row.target for row in rows])

    def drop(self, numbers: Sequence[int], *, replayed: bool = False) -> list[int]:
        """Remove letters; return the numbers of those that were not there."""
        with self._connection.writing() as connection:
            taken = _take(connection, numbers)
            now = self._clock()
            self._lapse(connection, [one for one in taken.values() if one[3]], now)
            if replayed and taken:
                _count(connection, "replayed", [target for _, target, _, _ in taken.values()])
                ids = [id_ for _, _, id_, _ in taken.values()]
                connection.execute(_RECORD, (now, list(taken), ids))
        return [number for number in numbers if number not in taken]

    def _lapse(self, connection: psycopg.Connection[Any], letters: Iterable[_Taken], now: float) -> None:
        """Let the duplicate window of ids run out, which ended with their letters."""
        places = [(target, id_) for _, target, id_, _ in letters]
        if places:
            targets, ids = [target for target, _ in places], [id_ for _, id_ in places]
            connection.execute(_LAPSE, (now + self._dedup_window_s, targets, ids))


def _condition(selection: Selection) -> tuple[str, Mapping[str, Any]]:
    """Return what a letter must fulfil, as SQL with its values."""
    values = {
        name: list(value) if name == "ids" else value
        for name in _CONDITIONS
        if (value := getattr(selection, name)) is not None and value != ()
    }
    return " AND ".join(["true", *(_CONDITIONS[name] for name in values)]), values


def _take(connection: psycopg.Connection[Any], numbers: Sequence[int]) -> dict[int, _Taken]:
    """Remove letters; return those that were there, by number."""
    return {one[0]: (one[0], one[1], one[2], one[3]) for one in fetch(connection, _TAKE, list(numbers))}


def _count(connection: psycopg.Connection[Any], name: str, targets: Iterable[str]) -> None:
    counts = Counter(targets)
    connection.execute(_COUNT, (name, list(counts), list(counts.values())))


def _see(connection: psycopg.Connection[Any], rows: Sequence[Row]) -> None:
    if rows:
        columns = [row.target for row in rows], [row.id for row in rows], [digest_of(row) for row in rows]
        connection.execute(_SEE, columns)


def _reason(was_replayed: bool) -> Reason:
    return "already replayed" if was_replayed else "gone"


def _letter(found: tuple[Any, ...]) -> Letter:
    seq, target, id_, key, accepted, options, form, payload, crc, given_id, progress, *rest = found
    died, reason, error, errors, handler, fingerprint, attempts, replayed = rest
    row = Row(
        *(target, id_, key, accepted, payload, form, options),
        given_id=given_id,
        progress=progress,
        crc=crc,
        seq=seq,
    )
    return Letter(
        row=row,
        died=died,
        reason=reason,
        error=error,
        errors=tuple(json.loads(errors)),
        handler=handler,
        fingerprint=fingerprint,
        attempts=attempts,
        replayed=replayed,
    )
