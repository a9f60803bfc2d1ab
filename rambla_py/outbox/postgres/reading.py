"""Reading the rows of leased buckets: in order, and late ones as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import psycopg

from rambla_py.outbox.postgres.connection import fetch
from rambla_py.outbox.postgres.leases import Leases
from rambla_py.outbox.postgres.sweep import Sweep
from rambla_py.outbox.rows import Row

__all__ = ["Reading"]

_COLUMNS: Final = """
message.target, id, key, accepted, payload, form, options, due, wait_s, given_id, progress, started, crc, seq,
message.bucket, message.relay
"""
# A bucket after the other, each in order, until there are enough. One that has no rows costs a look.
# The bounds are those of the index (bucket, target, seq), which is the only one that can follow them. With
# equalities the planner takes the primary key for as good while it believes the table to be almost empty;
# but removed rows stay in it as long as a transaction is open, and each bucket would pass by those of all.
# Up to where rows are handed out is recorded before they are, and in the same statement: messages wait for
# it. For that, it does not wait for the disk: nothing depends on it but the number of deaths of a process
# that dies together with the server.
_NEXT: Final = f"""
WITH found AS (
    SELECT {_COLUMNS}
    FROM unnest(%s::smallint[], %s::bigint[]) AS held (bucket, after) CROSS JOIN LATERAL (
        SELECT * FROM rambla_message AS message
        WHERE (message.bucket, message.target, message.seq) > (held.bucket, %s, held.after)
            AND (message.bucket, message.target) <= (held.bucket, %s)
        ORDER BY message.bucket, message.target, message.seq LIMIT %s
    ) AS message
    LIMIT %s
), recorded AS (
    INSERT INTO rambla_handed AS handed (bucket, target, upto)
    SELECT bucket, target, max(seq)
    FROM found, (SELECT set_config('synchronous_commit', 'off', true) AS synced) AS setting
    WHERE synced = 'off' GROUP BY bucket, target
    ON CONFLICT (bucket, target) DO UPDATE SET upto = excluded.upto WHERE handed.upto < excluded.upto
)
SELECT * FROM found
"""
# What is there up to the last row that was handed out: rows in this process, and late ones.
_BEFORE: Final = """
SELECT message.seq
FROM unnest(%s::smallint[], %s::bigint[]) AS held (bucket, upto) CROSS JOIN LATERAL (
    SELECT seq FROM rambla_message AS message
    WHERE (message.bucket, message.target, message.seq) <= (held.bucket, %s, held.upto)
        AND (message.bucket, message.target) >= (held.bucket, %s)
) AS message
"""
_LATE: Final = f"SELECT {_COLUMNS} FROM rambla_message AS message WHERE seq = ANY(%s) ORDER BY seq"


_SHARE: Final = 0.2
"""How much of the time between two polls the looks of one ``read`` may take."""


class Reading:
    """Hands out each row of the leased buckets once.

    A transaction may commit a row after rows with higher numbers were handed out. So what is there below
    the last one is looked through as well, every ``poll_s`` seconds; over several of them, if the server has
    kept very many removed rows there for a transaction that stays open.
    """

    def __init__(self, leases: Leases, *, poll_s: float, monotonic: Callable[[], float]) -> None:
        self._leases, self._poll_s, self._monotonic = leases, poll_s, monotonic
        self._sweeps: dict[str, Sweep] = {}
        self._doubted: set[tuple[str, str]] = set()

    def read(self, connection: psycopg.Connection[Any], target: str, limit: int) -> list[Row]:
        """Return rows for a target that are in no mailbox, at most ``limit``; of each bucket in order."""
        rows: list[Row] = []
        try:
            self._read(connection, target, limit, rows)
        except BaseException:
            self.take_back(rows)
            raise
        return sorted(rows, key=lambda row: row.seq)

    def look_again(self) -> None:
        """Let the next ``read`` of each target look for late rows."""
        for sweep in self._sweeps.values():
            sweep.again()

    def doubt(self, rows: Iterable[Row]) -> None:
        """Record rows of a commit that may have taken effect: this process has not accepted them."""
        self._doubted.update((row.target, row.id) for row in rows)

    def take_back(self, rows: Sequence[Row]) -> None:
        """Record that rows are not in this process after all; they are read again as late ones."""
        self._leases.removed(row.seq for row in rows)
        for target in {row.target for row in rows} & self._sweeps.keys():
            self._sweeps[target].again()

    def _read(self, connection: psycopg.Connection[Any], target: str, limit: int, rows: list[Row]) -> None:
        rows += self._late(connection, target, limit)
        while len(rows) < limit:
            buckets = self._leases.readable()
            after = [self._leases.held[bucket].cursors.get(target, 0) for bucket in buckets]
            room = limit - len(rows)
            found = fetch(connection, _NEXT, buckets, after, target, target, room, room)
            rows += self._hand_out(found)
            if len(found) < room:
                break

    def _late(self, connection: psycopg.Connection[Any], target: str, limit: int) -> list[Row]:
        sweep, began = self._sweeps.setdefault(target, Sweep(self._poll_s)), self._monotonic()
        buckets = [one for one in self._leases.readable() if target in self._leases.held[one].cursors]
        now, rows = began, list[Row]()
        while not rows and now <= began + self._poll_s * _SHARE and (chosen := sweep.next(buckets, now)):
            upto = [self._leases.held[bucket].cursors[target] for bucket in chosen]
            before = fetch(connection, _BEFORE, list(chosen), upto, target, target)
            late = sorted(seq for (seq,) in before if seq not in self._leases.bucket_of)
            looked_at, now = now, self._monotonic()
            if len(late) <= limit:
                sweep.looked(chosen, buckets, took_s=now - looked_at, now=looked_at)
            rows = self._hand_out(fetch(connection, _LATE, late[:limit])) if late else []
        return rows

    def _hand_out(self, found: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return what was found as rows, without those that are in this process already."""
        rows = []
        for one in found:
            *_, seq, bucket, relay = one
            held = self._leases.held.get(bucket)
            if held is None:
                continue
            target = one[0]
            if seq > held.cursors.get(target, 0):
                held.cursors[target] = seq
            if seq in self._leases.bucket_of:
                continue
            self._leases.hand_out(bucket, seq)
            mine = relay == self._leases.relay and (target, one[1]) not in self._doubted
            self._doubted.discard((target, one[1]))
            row = _row(one, mine=mine)
            row.crashes = self._leases.crashes(row, bucket, relay)
            rows.append(row)
        return rows


def _row(found: tuple[Any, ...], *, mine: bool) -> Row:
    target, id_, key, accepted, payload, form, options, due, wait_s, given_id, progress, *rest = found
    started, crc, seq = rest[:3]
    return Row(
        *(target, id_, key, accepted, bytes(payload), form, options, due, wait_s, given_id, progress),
        started=started,
        crc=crc,
        seq=seq,
        mine=mine,
    )
