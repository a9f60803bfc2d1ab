"""Apps with an outbox in PostgreSQL: delivered once, by any of them, whatever is restarted or killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from outbox_databases import Database
from outbox_relays import Relays

from rambla_py import Handler, KeptError, OutboxError, Rambla, Receipt, ReceiptTimeoutError, outbox
from rambla_py.outbox.postgres.buckets import bucket_of
from rambla_py.testing.databases import PostgresServer
from rambla_py.testing.harness import until

TARGET = "probe.orders"
PROCESS = Path(__file__).parents[1] / "support" / "outbox_relay_process.py"


class Received:
    """The messages that the handlers of a test were given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str | None, Any]] = []
        self.ids: list[str] = []
        self.before: Callable[[], Any] = lambda: None

    def app(self, url: str, max_pending: int = 10_000, **settings: Any) -> Rambla:
        """Return an app that delivers to here."""
        received = self

        class Probe(Handler):
            def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
                received.before()
                received.messages.append((message.key, message.payload))
                received.ids.append(message.id)
                return message.payload

        return Rambla(
            {
                "rambla": {"outbox": {"url": url, "poll_s": 0.1} | settings},
                "probe": {
                    "handler": Probe,
                    "connections": {"c": {}},
                    "channels": {"orders": {"connection": "c", "durable": True, "max_pending": max_pending}},
                },
            }
        )


@pytest.fixture
def received() -> Received:
    return Received()


def pending(database: Database) -> int:
    return int(database.query("SELECT count(*) FROM rambla_message")[0][0])


def accounts_add_up(database: Database) -> bool:
    journal = Relays(database).open(delivers=False)
    account = journal.accounts()[TARGET]
    journal.close()
    return account.difference == 0 and account.pending == 0


def test_publish_returns_after_the_commit_and_gives_the_result(
    empty_postgres: Database, received: Received
) -> None:
    """With and without a key; the row is removed."""
    with received.app(empty_postgres.url) as app:
        receipts = [app.publish("orders", 1), app.publish("orders", 2, key="k")]
        assert {receipt.level for receipt in receipts} <= {"journaled", "confirmed"}
        assert [receipt.result(timeout_s=10) for receipt in receipts] == [1, 2]
        assert app.flush(timeout_s=10)
        assert app.audit()[TARGET].ok == 2
    assert pending(empty_postgres) == 0
    assert accounts_add_up(empty_postgres)


def test_more_messages_than_a_mailbox_holds(empty_postgres: Database, received: Received) -> None:
    """Those without room wait in the journal; each is delivered once, those of a key in order."""
    with received.app(empty_postgres.url) as app:
        first = app.publish_many("orders", range(15_000))
        second = app.publish_many("orders", range(15_000, 16_000), key="k")
        assert len(first.outcomes(timeout_s=60)) == 15_000
        assert len(second.outcomes(timeout_s=60)) == 1_000
        assert app.flush(timeout_s=10)
        account = app.audit()[TARGET]
        assert (account.accepted, account.ok, account.pending) == (16_000, 16_000, 0)
    assert sorted(payload for _, payload in received.messages) == list(range(16_000))
    assert [payload for key, payload in received.messages if key] == list(range(15_000, 16_000))
    assert accounts_add_up(empty_postgres)


def test_two_relays_deliver_each_message_once(empty_postgres: Database) -> None:
    """Each those of its buckets; a key is delivered by one of them, in order."""
    here, there = Received(), Received()
    with here.app(empty_postgres.url) as first, there.app(empty_postgres.url):
        assert until(
            lambda: empty_postgres.query("SELECT count(DISTINCT relay) FROM rambla_bucket") == [(2,)]
        )
        with psycopg.connect(empty_postgres.url) as connection:
            connection.execute("SELECT 1")
            for turn in range(10):
                for key in range(30):
                    outbox.publish(connection, "orders", turn, app=first, key=f"k{key}")
        assert until(lambda: len(here.messages) + len(there.messages) >= 300)
    assert here.messages
    assert there.messages
    both = here.messages + there.messages
    assert len(both) == 300
    for key in range(30):
        assert [turn for name, turn in both if name == f"k{key}"] == list(range(10))
    assert accounts_add_up(empty_postgres)


def test_a_receipt_waits_for_no_message_that_another_relay_has(
    empty_postgres: Database, received: Received
) -> None:
    """Its bucket went to a relay that came later, before there was room for it in the first one's mailbox."""
    gate, other = threading.Event(), Received()
    received.before = lambda: gate.wait(20)
    with received.app(empty_postgres.url, max_pending=5) as app:
        receipts = [app.publish("orders", at, key=f"k{at}") for at in range(100)]
        with other.app(empty_postgres.url):
            assert until(lambda: len(other.ids) > 10)
            assert until(lambda: sum(map(_is_kept, receipts)) > 10)
            gate.set()


def _is_kept(receipt: Receipt) -> bool:
    try:
        receipt.outcomes(timeout_s=0.001)
    except KeptError:
        return True
    except ReceiptTimeoutError:
        pass
    return False


def test_what_is_read_with_a_message_that_goes_alone_is_delivered_after_it(
    empty_postgres: Database, received: Received
) -> None:
    """Two relays died with all of these: each is attempted alone, and those behind it are read again."""
    with Received().app(empty_postgres.url, deliver=False) as writer:
        writer.publish_many("orders", range(10), key="k")
    deaths = f"UPDATE rambla_bucket SET relay = 7, until = '-infinity' WHERE number = {bucket_of('k')}"
    empty_postgres.query("INSERT INTO rambla_relay (number, until) VALUES (7, '-infinity')")
    empty_postgres.query(deaths)
    empty_postgres.query(
        f"INSERT INTO rambla_handed (bucket, target, upto, deaths) "
        f"VALUES ({bucket_of('k')}, '{TARGET}', 1000000, '{{1000000}}')"
    )
    with received.app(empty_postgres.url):
        assert until(lambda: pending(empty_postgres) == 0, 30)
    assert [payload for _, payload in received.messages] == list(range(10))


def test_a_process_that_only_writes_leaves_delivery_to_others(
    empty_postgres: Database, received: Received
) -> None:
    """Its receipts say so at once."""
    with Received().app(empty_postgres.url, deliver=False) as writer:
        receipt = writer.publish("orders", 1)
        with pytest.raises(KeptError):
            receipt.result(timeout_s=5)
    with received.app(empty_postgres.url):
        assert until(lambda: len(received.messages) == 1)


def test_rows_of_writers_for_a_channel_that_is_gone(empty_postgres: Database, received: Received) -> None:
    """They come while a relay runs: it sets them aside then, not at its next start."""
    with received.app(empty_postgres.url) as app, psycopg.connect(empty_postgres.url) as connection:
        app.publish("orders", 1).result(10)
        connection.execute(
            "INSERT INTO rambla_message (bucket, target, id, accepted, payload, crc) "
            "VALUES (1, 'probe.gone', 'm-1', 0, '', 0)"
        )
        connection.execute("INSERT INTO rambla_accepted (target, count) VALUES ('probe.gone', 1)")
        connection.commit()
        assert until(
            lambda: empty_postgres.query("SELECT id, reason FROM rambla_dead") == [("m-1", "no channel")]
        )
        app.publish("orders", 2).result(10)


def test_a_flush_waits_for_what_transactions_have_stored(
    empty_postgres: Database, received: Received
) -> None:
    """Also for what is committed after rows with higher numbers, which are delivered by then."""
    with (
        received.app(empty_postgres.url, poll_s=1_000) as app,
        psycopg.connect(empty_postgres.url) as late,
        psycopg.connect(empty_postgres.url) as early,
    ):
        for connection in (late, early):
            connection.execute("SELECT 1")  # begins a transaction
        outbox.publish(late, "orders", "late", key="k", app=app)
        outbox.publish(early, "orders", "early", key="k", app=app)
        early.commit()
        assert app.flush(30)
        assert [payload for _, payload in received.messages] == ["early"]
        late.commit()
        assert app.flush(30)
        assert [payload for _, payload in received.messages] == ["early", "late"]


def test_a_message_that_two_relays_delivered_is_reported(empty_postgres: Database) -> None:
    """The relay that came too late counts it, and observers get its id; the accounts add up."""
    gate, here, there = threading.Event(), Received(), Received()
    here.before = gate.wait
    past = "now() - interval '1 minute'"
    with here.app(empty_postgres.url, poll_s=1_000) as paused:
        events: list[Any] = []
        paused.listen(lambda event: events.append(event.data) if event.kind == "lease_lost" else None)
        receipt = paused.publish("orders", 1, id="m-1")
        empty_postgres.query(
            f"UPDATE rambla_bucket SET until = {past}; UPDATE rambla_relay SET until = {past}"
        )
        with there.app(empty_postgres.url):
            assert until(lambda: there.ids == ["m-1"])
            assert until(lambda: pending(empty_postgres) == 0)
            gate.set()
            assert receipt.result(timeout_s=10) == 1
            assert until(lambda: events == [{"message_id": "m-1"}])
    assert accounts_add_up(empty_postgres)


def test_a_restart_of_the_server_loses_nothing(
    empty_postgres: Database, received: Received, postgres_server: PostgresServer
) -> None:
    """A publish raises while it is away; what returned is delivered."""
    promised: list[str] = []
    refused = 0
    restarted = threading.Event()

    def restart() -> None:
        postgres_server.kill()
        postgres_server.restart()
        restarted.set()

    with received.app(empty_postgres.url) as app:
        thread = threading.Thread(target=restart)
        number = 0
        while number < 200 or not restarted.is_set():
            number += 1
            if number == 50:
                thread.start()
            try:
                app.publish("orders", number, id=f"m-{number}", key=f"k{number % 5}")
            except OutboxError:
                refused += 1
            else:
                promised.append(f"m-{number}")
        thread.join()
        assert until(lambda: set(promised) <= set(received.ids), 60)
        assert until(lambda: pending(empty_postgres) == 0, 60)
    assert refused > 0
    assert accounts_add_up(empty_postgres)


def test_a_relay_that_is_killed_loses_nothing(
    empty_postgres: Database, received: Received, tmp_path: Path
) -> None:
    """Another one delivers what was promised and had no removal, with the same ids."""
    witness = tmp_path / "ids"
    process = subprocess.Popen(
        [sys.executable, str(PROCESS), empty_postgres.url, str(witness)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    promised = [process.stdout.readline().split()[0] for _ in range(300)]
    process.kill()
    promised += [line.split()[0] for line in process.stdout.read().splitlines()]
    process.wait()
    process.stdout.close()
    past = "now() - interval '1 minute'"  # the leases are over
    empty_postgres.query(f"UPDATE rambla_bucket SET until = {past}; UPDATE rambla_relay SET until = {past}")
    with received.app(empty_postgres.url):
        assert until(lambda: pending(empty_postgres) == 0, 60)
    delivered = set(witness.read_text().split()) | set(received.ids)
    assert set(promised) <= delivered
