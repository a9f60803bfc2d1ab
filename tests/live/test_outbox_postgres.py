"""The journal in PostgreSQL: leases, late commits, losses of the server."""

from __future__ import annotations

import logging
import threading

import psycopg
import pytest
from outbox_databases import shop
from outbox_relays import TARGET, Relays, ids, letter, publish, row, store

from rambla_py import OutboxError, outbox
from rambla_py.outbox.journal import Changes
from rambla_py.outbox.postgres.buckets import bucket_of
from rambla_py.outbox.postgres.journal import PostgresJournal
from rambla_py.testing.databases import PostgresServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.pgbouncer import PgBouncer

APP = shop()
KEYS = [f"k{number}" for number in range(200)]


# -- leases -------------------------------------------------------------------------------------------


def test_relays_have_fair_shares(relays: Relays) -> None:
    """64 buckets for one, 32 for each of two, 22 at most for each of three; those of one that ends are free."""
    first = relays.open()
    assert relays.owners() == [64]
    second = relays.open()
    assert second._leases.held == {}
    for journal in (first, second):
        journal.claim()
    assert relays.owners() == [32, 32]
    third = relays.open()
    for journal in (first, second, third):
        journal.claim()
    assert relays.owners() == [22, 22, 20]
    second.close()
    for journal in (first, third):
        journal.claim()
    assert relays.owners() == [32, 32]


def test_a_bucket_is_given_back_when_its_rows_have_gone(relays: Relays) -> None:
    """Not before: another relay would deliver them once more."""
    first = relays.open()
    rows = [row(key, key=key) for key in KEYS]
    store(first, *rows)
    assert len(ids(first, limit=500)) == 200
    second = relays.open()
    first.claim()
    second.claim()
    assert ids(second, limit=500) == []
    first.write((), Changes(ended=[(one, "ok") for one in rows]))
    first.claim()
    second.claim()
    assert relays.owners() == [32, 32]


def test_no_row_of_a_lost_bucket_is_removed_by_the_former_relay(
    relays: Relays, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted and logged; the other relay removes and counts it."""
    paused = relays.open()
    rows = [row(key, key=key) for key in KEYS[:10]]
    store(paused, *rows)
    paused.read(0, TARGET, 0, 100)
    relays.lapse(paused)
    other = relays.open()
    theirs = other.read(0, TARGET, 0, 100)
    assert sorted(one.id for one in theirs) == sorted(KEYS[:10])
    with caplog.at_level(logging.WARNING):
        paused.write((), Changes(ended=[(one, "ok") for one in rows]))
    assert paused.lease_lost == 10
    assert sorted(one.id for one in paused.lost()) == sorted(KEYS[:10])
    assert paused.lost() == []
    assert "10 removals came after the lease was lost" in caplog.text
    assert other.accounts()[TARGET].pending == 10
    other.write((), Changes(ended=[(one, "ok") for one in theirs]))
    account = other.accounts()[TARGET]
    assert (account.ok, account.pending, account.difference) == (10, 0, 0)


def test_a_removal_that_is_made_twice_is_no_lost_lease(relays: Relays) -> None:
    """As after a commit of which the answer did not come."""
    journal = relays.open()
    one = row("m-1")
    store(journal, one)
    for _ in range(2):
        journal.write((), Changes(ended=[(one, "ok")]))
    assert journal.lease_lost == 0


def test_rows_that_could_not_be_handed_out_come_again(relays: Relays) -> None:
    """What read returned was in no mailbox when the next statement failed; soon after a boot as well."""
    journal = relays.open(poll_s=1_000.0, monotonic=lambda: 1.0)
    store(journal, row("m-1", key="k"))
    rows = journal.read(0, TARGET, 0, 10)
    assert ids(journal) == []
    journal.spill(rows)
    assert ids(journal) == ["m-1"]


def test_a_relay_that_was_paused_lets_go_of_what_others_took(
    relays: Relays, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not extend their leases, and takes its fair share again when there is one."""
    paused = relays.open(lease_s=0.001)
    assert len(paused._leases.held) == 64
    relays.lapse(paused)
    other = relays.open()
    until = "SELECT number, until FROM rambla_bucket ORDER BY 1"
    before = relays.database.query(until)
    with caplog.at_level(logging.WARNING):
        paused.claim()
    assert "64 buckets were taken over by another relay" in caplog.text
    assert paused._leases.held == {}
    assert relays.database.query(until) == before
    assert relays.owners() == [64]
    assert len(other._leases.held) == 64


def test_a_lost_bucket_makes_no_dead_letter_either(relays: Relays) -> None:
    """The relay that has the row decides."""
    paused = relays.open()
    one = row("m-1", key="k")
    store(paused, one)
    paused.read(0, TARGET, 0, 10)
    relays.lapse(paused)
    other = relays.open()
    paused.write((), Changes(dead=[letter(one)], progress={one.seq: (b"\x91\x05", None, 0.0)}))
    assert (other.accounts()[TARGET].dead, other.accounts()[TARGET].pending) == (0, 1)
    assert other.read(0, TARGET, 0, 10)[0].progress is None


def test_a_lease_that_lapsed_unnoticed_goes_on(relays: Relays) -> None:
    """No other relay took the bucket: the token is the same, and nothing is delivered twice."""
    journal = relays.open()
    one = row("m-1", key="k")
    store(journal, one)
    journal.read(0, TARGET, 0, 10)
    relays.lapse(journal)
    journal.write((), Changes(ended=[(one, "ok")]))
    assert journal.lease_lost == 0
    assert journal.accounts()[TARGET].ok == 1


def test_a_claim_that_is_rolled_back_takes_nothing(relays: Relays) -> None:
    """Its relay would go on with the tokens that another one gets, and both would deliver the same rows."""
    late = PostgresJournal(relays.database.url, poll_s=0, room_check_s=0, read_timeout_s=0.5)
    relays.opened.append(late)
    late.open(delivers=True)
    with psycopg.connect(relays.database.url) as blocker:
        blocker.execute("LOCK TABLE rambla_accepted")
        with pytest.raises(OutboxError):
            late.claim()
        blocker.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
    second = relays.open()
    store(second, *(row(key, key=key) for key in KEYS))
    assert ids(second, limit=500)
    assert ids(late, limit=500) == []
    late.claim()
    assert len(ids(late, limit=500)) + len(second._leases.bucket_of) == len(KEYS)


def test_leases_are_renewed_at_a_third(relays: Relays) -> None:
    """By the clock of the database."""
    now = [0.0]
    journal = relays.open(monotonic=lambda: now[0])
    left = "SELECT extract(epoch FROM min(until) - clock_timestamp()) FROM rambla_bucket"
    relays.database.query("UPDATE rambla_bucket SET until = clock_timestamp() + interval '20 seconds'")
    now[0] = 9.9
    journal.claim()
    assert relays.database.query(left)[0][0] < 20.5
    now[0] = 10.1
    journal.claim()
    assert 25 < relays.database.query(left)[0][0] <= 30


def test_rows_of_a_relay_that_died_are_found_by_others(relays: Relays) -> None:
    """With a crash for those that it had, and none for those that it had not read."""
    dead = relays.open()
    store(dead, *[row(f"{key}-{turn}", key=key) for turn in range(2) for key in KEYS[:5]])
    had = set(ids(dead, limit=6))
    dead.write((), Changes(cursors={(0, TARGET): 1}))
    relays.lapse(dead)
    other = relays.open()
    found = other.read(0, TARGET, 0, 100)
    assert {one.id: one.crashes for one in found} == {one.id: int(one.id in had) for one in found}
    assert len(found) == 10


# -- order and late rows ------------------------------------------------------------------------------


def test_a_key_is_in_one_bucket_and_in_order(relays: Relays) -> None:
    """Whichever process stores its rows, one relay hands them out, as they were committed."""
    first = relays.open()
    second = relays.open()
    first.claim()
    second.claim()
    for turn in range(5):
        for journal in (first, second):
            store(journal, *[row(f"{key}-{turn}-{journal._leases.relay}", key=key) for key in KEYS[:20]])
    read = [ids(journal, limit=500) for journal in (first, second)]
    assert len(read[0]) + len(read[1]) == 200
    for key in KEYS[:20]:
        mine = [[id_ for id_ in some if id_.startswith(f"{key}-")] for some in read]
        assert sorted(map(len, mine)) == [0, 10]
        (whole,) = [some for some in mine if some]
        assert [id_.split("-")[1] for id_ in whole] == sorted(id_.split("-")[1] for id_ in whole)


def test_a_row_that_commits_late_is_found(relays: Relays) -> None:
    """Behind rows with higher numbers of the same bucket, that were handed out already."""
    journal = relays.open()
    with psycopg.connect(relays.database.url) as slow, psycopg.connect(relays.database.url) as quick:
        slow.execute("SELECT 1")
        quick.execute("SELECT 1")
        late = outbox.publish(slow, TARGET, 1, app=APP, key="k")
        early = outbox.publish(quick, TARGET, 2, app=APP, key="k")
        quick.commit()
        assert ids(journal) == [early]
        assert ids(journal) == []
        slow.commit()
        assert ids(journal) == [late]
        assert ids(journal) == []


def test_late_rows_are_looked_for_every_poll_s(relays: Relays) -> None:
    """Not at each read."""
    now = [0.0]
    journal = relays.open(poll_s=1.0, monotonic=lambda: now[0])
    with psycopg.connect(relays.database.url) as slow:
        slow.execute("SELECT 1")
        late = outbox.publish(slow, TARGET, 1, app=APP, key="k")
        early = row("early", key="k")
        store(journal, early)
        now[0] = 5.0
        assert ids(journal) == ["early"]
        slow.commit()
        now[0] = 5.9
        assert ids(journal) == []
        now[0] = 6.0
        assert ids(journal) == [late]


def test_rows_come_once_with_any_limit(relays: Relays) -> None:
    """Of many buckets, a few at a time, with others between."""
    journal = relays.open()
    store(journal, *[row(f"m-{number}", key=f"k{number % 97}") for number in range(500)])
    seen: list[str] = []
    added = 0
    while some := ids(journal, limit=7):
        assert len(some) <= 7
        seen += some
        if len(seen) < 100:
            added += 1
            store(journal, row(f"n-{len(seen)}", key=f"k{len(seen)}"))
    assert len(seen) == len(set(seen)) == 500 + added


def test_a_row_without_a_key_is_handed_out_by_its_own_process(relays: Relays) -> None:
    """It is not read again, unless there was no room for it."""
    journal = relays.open()
    resident, spilled = row("m-1"), row("m-2")
    store(journal, resident, spilled)
    assert resident.share == spilled.share == journal.own
    assert journal.spill((spilled,))
    (back,) = journal.read(0, TARGET, 0, 10)
    assert (back.id, back.mine) == ("m-2", True)
    assert ids(journal) == []


def test_a_row_of_another_relays_bucket_is_left_to_it(relays: Relays) -> None:
    """And the other one is woken if it sleeps."""
    first = relays.open()
    second = relays.open()
    first.claim()
    second.claim()
    key = next(key for key in KEYS if bucket_of(key) in second._leases.held)
    other = row("m-1", key=key)
    store(first, other)
    assert other.share < 0
    assert ids(first) == []
    assert ids(second) == ["m-1"]


# -- notifications ------------------------------------------------------------------------------------


def woken(journal: PostgresJournal) -> threading.Event:
    """Return an event that is set when the journal notices rows, once it listens."""
    assert journal._listener.listening.wait(10)
    event = threading.Event()
    journal.wake = event.set
    return event


def test_an_idle_relay_is_woken_by_a_commit(relays: Relays) -> None:
    """It marks itself idle once it has found nothing for a while."""
    journal = relays.open()
    event = woken(journal)
    journal.claim()
    assert relays.database.query("SELECT idle FROM rambla_relay") == [(True,)]
    publish(relays.database)
    assert event.wait(10)


def test_a_relay_that_finds_rows_is_not_idle(relays: Relays) -> None:
    """So that no transaction notifies it."""
    journal = relays.open()
    publish(relays.database)
    assert len(ids(journal)) == 1
    journal.claim()
    assert relays.database.query("SELECT idle FROM rambla_relay") == [(False,)]


def test_the_listener_is_made_again(relays: Relays) -> None:
    """After its session was ended; what was missed meanwhile is looked for."""
    journal = relays.open()
    event = woken(journal)
    ended = journal._listener.pid
    relays.database.query(f"SELECT pg_terminate_backend({ended})")
    assert event.wait(10)
    assert journal._listener.listening.wait(10)
    assert journal._listener.pid not in (0, ended)
    event.clear()
    journal.claim()
    publish(relays.database)
    assert event.wait(10)


def test_a_listener_that_nothing_reaches_is_made_again(
    relays: Relays, postgres_server: PostgresServer
) -> None:
    """A proxy that keeps the connection open and passes nothing on: its test does not come back."""
    with FaultProxy(postgres_server.host, postgres_server.port) as proxy:
        host, port = proxy.address
        url = relays.database.url.replace(f"{postgres_server.host}:{postgres_server.port}", f"{host}:{port}")
        journal = relays.open(url, test_s=0.3, read_timeout_s=0.3)
        woken(journal)
        before = journal._listener.pid
        proxy.black_hole()
        event = woken(journal)
        journal._listener.listening.clear()
        event.clear()
        assert event.wait(20)
        proxy.black_hole(False)
        assert journal._listener.listening.wait(20)
        assert journal._listener.pid != before


def test_polling_goes_on_alone_behind_a_pooler(
    relays: Relays, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Notifications do not come through a pooler of transactions; everything else works."""
    with PgBouncer(postgres_server) as pooler:
        name = relays.database.url.rpartition("/")[2]
        journal = relays.open(f"{pooler.url.rpartition('/')[0]}/{name}", test_s=0.2)
        publish(relays.database)
        (one,) = journal.read(0, TARGET, 0, 10)
        journal.write((), Changes(ended=[(one, "ok")]))
        assert relays.difference() == 0
        journal.close()


# -- the server ---------------------------------------------------------------------------------------


def test_a_restart_of_the_server_is_survived(relays: Relays, postgres_server: PostgresServer) -> None:
    """What was handed out before is removed after it; the leases go on."""
    journal = relays.open()
    one = row("m-1", key="k")
    store(journal, one)
    journal.read(0, TARGET, 0, 10)
    postgres_server.restart()
    with pytest.raises(OutboxError):
        journal.write((), Changes(ended=[(one, "ok")]))
    journal.write((), Changes(ended=[(one, "ok")]))
    journal.claim()
    assert journal.lease_lost == 0
    assert journal.accounts()[TARGET].ok == 1


def test_without_the_server_every_call_is_refused_at_once(
    relays: Relays, postgres_server: PostgresServer
) -> None:
    """And each of them tries again."""
    journal = relays.open()
    postgres_server.kill()
    for _ in range(2):
        with pytest.raises(OutboxError) as caught:
            store(journal, row("m-1"))
        assert "s3cret" not in str(caught.value)
    with pytest.raises(OutboxError):
        journal.claim()
    with pytest.raises(OutboxError):
        ids(journal)
    postgres_server.restart()
    store(journal, row("m-2"))
    assert journal.accounts()[TARGET].accepted == 1


def test_a_session_that_was_ended_is_replaced(relays: Relays) -> None:
    """One call fails, and the next works."""
    journal = relays.open()
    with journal._connection.using() as connection:
        pid = connection.info.backend_pid
    relays.database.query(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(OutboxError):
        store(journal, row("m-1"))
    store(journal, row("m-2"))


def test_closing_without_the_server_raises_nothing(relays: Relays, postgres_server: PostgresServer) -> None:
    """The leases lapse by themselves."""
    journal = relays.open()
    postgres_server.kill()
    journal.close()
    postgres_server.restart()
