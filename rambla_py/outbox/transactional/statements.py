"""The statements of a call, for any driver."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Literal, NamedTuple

from rambla_py.outbox.digests import DUPLICATE, digest_of
from rambla_py.outbox.errors import DuplicateIdError
from rambla_py.outbox.postgres.buckets import any_bucket, bucket_of
from rambla_py.outbox.postgres.tables import CHANNEL
from rambla_py.outbox.rows import Row

__all__ = ["Dialect", "Query", "Steps", "steps_for"]

Dialect = Literal["sqlite", "postgresql"]
Placeholder = Callable[[int], str]

_ROWS_A_STATEMENT = 1_000
"""SQLite takes 32,766 parameters in a statement."""


class Query(NamedTuple):
    """A statement with its parameters; ``sql`` makes its text, given a function that makes placeholders."""

    sql: Callable[[Placeholder], str]
    parameters: tuple[Any, ...]


Steps = Generator[Query, list[Any], None]
"""Yields queries, and is sent the rows that each returned, or thrown what it raised."""


def steps_for(dialect: Dialect, rows: Sequence[Row], *, guesses_types: bool = False) -> Steps:
    """Return the queries that store rows, all or none. Raises ``DuplicateIdError``.

    ``guesses_types``: the driver sends a type that it guesses with each value, and not that of the column.
    """
    rows = _without_repeats(rows)
    if dialect == "sqlite":
        return _sqlite_steps(rows)
    if len(rows) == 1 and not rows[0].given_id and not guesses_types:
        return _single_step(rows[0])
    return _postgres_steps(rows)


def _without_repeats(rows: Sequence[Row]) -> list[Row]:
    """Return rows without those whose target, id and payload another one has."""
    seen: dict[tuple[str, str], bytes] = {}
    kept = []
    for row in rows:
        place = (row.target, row.id)
        if row.given_id and place in seen:
            if seen[place] != row.payload:
                raise DuplicateIdError(*place)
            continue
        seen[place] = row.payload
        kept.append(row)
    return kept


# -- SQLite -------------------------------------------------------------------------------------------

_COLUMNS = ("target", "id", "key", "accepted", "due", "wait_s", "options", "form", "payload", "crc", "digest")


def _sqlite_steps(rows: Sequence[Row]) -> Steps:
    if len(rows) > _ROWS_A_STATEMENT:  # a statement that is refused undoes itself only
        yield from _look_for_others(rows)
    for at in range(0, len(rows), _ROWS_A_STATEMENT):
        part = rows[at : at + _ROWS_A_STATEMENT]
        values = [value for row in part for value in _sqlite_values(row)]
        try:
            yield Query(functools.partial(_arrivals, len(part)), tuple(values))
        except Exception as error:
            if DUPLICATE in str(error):
                yield from _look_for_others(part)
            raise


def _look_for_others(rows: Sequence[Row]) -> Steps:
    """Raise ``DuplicateIdError`` for a given id that another payload had."""
    given = {(row.target, row.id): digest_of(row) for row in rows if row.given_id}
    ids = list(dict.fromkeys(message_id for _, message_id in given))
    for at in range(0, len(ids), _ROWS_A_STATEMENT):
        part = ids[at : at + _ROWS_A_STATEMENT]
        found = yield Query(functools.partial(_entries, len(part)), (rows[0].accepted, *part))
        for target, message_id, digest in found:
            if given.get((target, message_id), digest) != digest:
                raise DuplicateIdError(target, message_id)


def _entries(ids: int, placeholder: Placeholder) -> str:
    listed = ", ".join(placeholder(at) for at in range(1, ids + 1))
    return f"""
SELECT name, id, digest FROM rambla_seen AS seen JOIN rambla_target AS target ON number = seen.target
WHERE (until IS NULL OR until > {placeholder(0)}) AND id IN ({listed})"""


@functools.lru_cache(maxsize=64)
def _arrivals(rows: int, placeholder: Placeholder) -> str:
    size = len(_COLUMNS)
    groups = (
        f"({', '.join(placeholder(row * size + column) for column in range(size))})" for row in range(rows)
    )
    return f"INSERT INTO rambla_arrival ({', '.join(_COLUMNS)}) VALUES {', '.join(groups)}"


def _sqlite_values(row: Row) -> tuple[Any, ...]:
    return (
        *(row.target, row.id, row.key, row.accepted, row.due, row.wait_s, row.options, row.form),
        *(row.payload, row.crc, digest_of(row) if row.given_id else None),
    )


# -- PostgreSQL ---------------------------------------------------------------------------------------

_TYPES: Final = {
    "bucket": "smallint",
    "target": "text",
    "id": "text",
    "key": "text",
    "accepted": "double precision",
    "due": "double precision",
    "wait_s": "double precision",
    "options": "bytea",
    "form": "text",
    "payload": "bytea",
    "crc": "bigint",
    "given_id": "boolean",
}
_NAMES = ", ".join(_TYPES)
_SINGLE = tuple(name for name in _TYPES if name != "given_id")
_SHORT = tuple(name for name in _SINGLE if name not in ("due", "wait_s", "options"))
"""Of a message without options and delay: each parameter costs the driver."""
# A relay is notified only if it says that it sleeps: a NOTIFY makes the commits of all transactions queue.
_WAKE = f"SELECT pg_notify('{CHANNEL}', '') FROM (SELECT FROM rambla_relay WHERE idle LIMIT 1) AS sleeper"


@functools.lru_cache
def _plain(placeholder: Placeholder) -> str:
    return f"""
WITH given AS (
    SELECT * FROM unnest({_arrays(placeholder)}) AS given ({_NAMES})
), arrived AS (
    INSERT INTO rambla_message ({_NAMES}) SELECT {_NAMES} FROM given
), counted AS (
    INSERT INTO rambla_accepted (target, count) SELECT target, count(*) FROM given GROUP BY target
)
{_WAKE}"""


@functools.lru_cache
def _single(columns: tuple[str, ...], placeholder: Placeholder) -> str:
    """Return the statement for one message: arrays of one cost the driver as much as all the rest."""
    values = ", ".join(placeholder(at) for at in range(len(columns)))
    return f"""
WITH arrived AS (
    INSERT INTO rambla_message ({", ".join(columns)}) VALUES ({values})
), counted AS (
    INSERT INTO rambla_accepted (target, count) VALUES ({placeholder(len(columns))}, 1)
)
{_WAKE}"""


@functools.lru_cache
def _with_ids(placeholder: Placeholder) -> str:
    """Return the statement for messages of which some have given ids.

    An entry of the duplicate window that was there is left as it is, unless it has lapsed; ``mark`` tells
    which are new. If one has another digest, no message is stored.
    """
    size = len(_TYPES)
    digests, mark, now = (placeholder(size + at) for at in range(3))
    return f"""
WITH given AS (
    SELECT * FROM unnest({_arrays(placeholder)}, CAST({digests} AS bytea[])) AS given ({_NAMES}, digest)
), seen AS (
    INSERT INTO rambla_seen AS old (target, id, digest, mark)
    SELECT target, id, digest, CAST({mark} AS bigint) FROM given WHERE given_id
    ON CONFLICT (target, id) DO UPDATE SET
        digest = CASE WHEN old.until <= {_number(now)} THEN excluded.digest ELSE old.digest END,
        mark = CASE WHEN old.until <= {_number(now)} THEN excluded.mark ELSE old.mark END,
        status = CASE WHEN old.until <= {_number(now)} THEN NULL ELSE old.status END,
        until = CASE WHEN old.until <= {_number(now)} THEN NULL ELSE old.until END
    RETURNING target, id, digest, mark = CAST({mark} AS bigint) AS is_new
), fate AS (
    SELECT given.target, given.id, seen.digest = given.digest AS is_same, seen.is_new
    FROM given JOIN seen ON seen.target = given.target AND seen.id = given.id
), fresh AS (
    SELECT * FROM given
    WHERE NOT EXISTS (SELECT FROM fate WHERE NOT is_same) AND NOT EXISTS (
        SELECT FROM fate WHERE fate.target = given.target AND fate.id = given.id AND NOT is_new
    )
), arrived AS (
    INSERT INTO rambla_message ({_NAMES}) SELECT {_NAMES} FROM fresh
), counted AS (
    INSERT INTO rambla_accepted (target, name, count)
    SELECT target, 'accepted', count(*) FROM fresh GROUP BY target UNION ALL
    SELECT target, 'duplicates', count(*) FROM fate WHERE is_same AND NOT is_new GROUP BY target
), woken AS (
    {_WAKE}
)
SELECT target, id, is_same FROM fate WHERE NOT is_same
UNION ALL SELECT '', '', true FROM woken"""


def _forget(placeholder: Placeholder) -> str:
    mark, ids = placeholder(0), placeholder(1)
    return f"DELETE FROM rambla_seen WHERE mark = CAST({mark} AS bigint) AND id = ANY(CAST({ids} AS text[]))"


def _arrays(placeholder: Placeholder) -> str:
    return ", ".join(f"CAST({placeholder(at)} AS {kind}[])" for at, kind in enumerate(_TYPES.values()))


def _number(placeholder: str) -> str:
    return f"CAST({placeholder} AS double precision)"


def _single_step(row: Row) -> Steps:
    columns = _SHORT if row.options is None and row.due is None else _SINGLE
    bucket = any_bucket() if row.key is None else bucket_of(row.key)
    values = [getattr(row, name) for name in columns[1:]]
    yield Query(functools.partial(_single, columns), (bucket, *values, row.target))


def _postgres_steps(rows: Sequence[Row]) -> Steps:
    if not rows:
        return
    columns = _columns(rows)
    if not any(row.given_id for row in rows):
        yield Query(_plain, columns)
        return
    digests = [digest_of(row) if row.given_id else None for row in rows]
    mark = secrets.randbits(63)
    found = yield Query(_with_ids, (*columns, digests, mark, rows[0].accepted))
    other = [(target, message_id) for target, message_id, is_same in found if not is_same]
    if not other:
        return
    ids = [row.id for row in rows if row.given_id]
    if len(ids) > len(other):
        yield Query(_forget, (mark, ids))
    raise DuplicateIdError(*other[0])


def _columns(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    return (
        [any_bucket() if row.key is None else bucket_of(row.key) for row in rows],
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
    )
