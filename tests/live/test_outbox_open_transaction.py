"""A transaction that stays open while many rows of an outbox in PostgreSQL come and go."""

from __future__ import annotations

import functools
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from outbox_databases import Database
from outbox_relays import TARGET, Relays, row, store
from outboxes import NAME, table_of

from rambla_py import Handler, Rambla, outbox
from rambla_py.outbox.journal import Changes
from rambla_py.outbox.postgres.reading import _BEFORE, _NEXT
from rambla_py.testing.harness import until

_HELD_S = float(os.environ.get("RAMBLA_HELD_S", "0"))
_ROWS, _GROUP = 50_000, 2_500


def _nearly(received: Counter[int], number: int) -> bool:
    return number - len(received) < 2 * _GROUP


def test_a_transaction_that_is_open_over_fifty_thousand_rows(empty_postgres: Database, tmp_path: Any) -> None:
    """Its messages are delivered after its commit, behind rows with higher numbers, and each row once.

    Removed rows are kept by the server for as long as it is open: reading must not slow down over them.
    """
    received: Counter[int] = Counter()

    class Counting(Handler):
        def handle_batch(self, messages: Sequence[Any], state: Any) -> list[Any]:
            received.update(message.payload for message in messages)
            return [None] * len(messages)

    settings = {"url": empty_postgres.url, "poll_s": 0.1}
    with Rambla(table_of(tmp_path, Counting, settings)) as app, psycopg.connect(empty_postgres.url) as late:
        began = time.monotonic()
        late.execute("SELECT pg_current_xact_id()")  # its snapshot, and its number, are older than all rows
        outbox.publish_many(late, "orders", [-1, -2], app=app)
        outbox.publish(late, "orders", -3, app=app, key="k")
        number = 0
        while number < _ROWS or time.monotonic() - began < _HELD_S:
            keyed = {"key": "k"} if number % 10_000 == 0 else {}
            app.publish_many("orders", range(number, number + _GROUP), **keyed)
            number += _GROUP
            assert until(functools.partial(_nearly, received, number), 60)
        assert until(lambda: len(received) == number, 60)
        assert min(received) == 0
        (low, high) = empty_postgres.query("SELECT last_value FROM rambla_message_seq_seq")[0][0], number
        assert low > high
        late.commit()
        assert until(lambda: len(received) == number + 3, 20)
        assert app.flush(20)
        assert until(lambda: empty_postgres.query("SELECT count(*) FROM rambla_message") == [(0,)])
        account = app.outbox.audit().targets[NAME]
    assert set(received.values()) == {1}
    assert (account.ok, account.difference) == (number + 3, 0)


@pytest.mark.parametrize(("query", "rest"), [(_NEXT, ", 500, 500"), (_BEFORE, "")], ids=["next", "late"])
def test_no_bucket_passes_by_the_removed_rows_of_others(relays: Relays, query: str, rest: str) -> None:
    """Rows that were removed while a transaction is open are still in the table, which looks almost empty.

    The statement is planned once for any values, as the server does after some executions.
    """
    journal = relays.open()
    with psycopg.connect(relays.database.url) as late:
        late.execute("SELECT pg_current_xact_id()")
        for group in range(20):
            rows = [row(f"{group}/{at}", key=f"k{at}") for at in range(500)]
            store(journal, *rows)
            relays.database.query("ANALYZE rambla_message")
            journal.write((), Changes(ended=[(one, "ok") for one in rows]))
        numbers = itertools.count(1)
        prepared = re.sub("%s", lambda _: f"${next(numbers)}", query)
        late.execute("SET plan_cache_mode = force_generic_plan")
        late.execute(f"PREPARE reading AS {prepared}".encode())
        given = f"'{set(range(64))}', '{{{', '.join(['0'] * 64)}}}', '{TARGET}', '{TARGET}'{rest}"
        plan = str(late.execute(f"EXPLAIN (ANALYZE) EXECUTE reading({given})".encode()).fetchall())
    assert "rambla_message_head" in plan
    assert "Rows Removed by Filter" not in plan
