"""``app.outbox``: audit, status, dead letters and replay of a running app, and of one that is stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dead_files import kill, row
from outboxes import NAME, Backend, account, running, table_of
from waiting import in_background, wait_until

from rambla_py import OutboxError, PermanentError, Rambla, UnknownChannelError
from rambla_py.outbox.attaching import letters_of
from rambla_py.outbox.dead import Selection
from rambla_py.outbox.editing import Edit
from rambla_py.outbox.replaying import Refused

NEVER = PermanentError("no queue for 'paid' at 10.0.0.7")


def test_a_dead_letter_is_seen_and_replayed_while_the_app_runs(tmp_path: Path) -> None:
    """Its error, attempts and payload; after the replay it is delivered by this app, and accounted for."""
    backend = Backend()
    backend.answers = [NEVER]
    with running(table_of(tmp_path, backend.handler())) as app:
        before = datetime.now(UTC) - timedelta(seconds=1)
        dead = app.publish("orders", {"id": 42}, key="k", headers={"tenant": "blue"})
        assert dead.outcomes(timeout_s=10)[0].status == "fatal"
        (letter,) = app.outbox.dead(channel="orders", since=before)
        assert (letter.payload, letter.key, letter.headers) == ({"id": 42}, "k", {"tenant": "blue"})
        assert (letter.attempts, letter.error) == (1, f"PermanentError: {NEVER}")
        assert [one.error for one in letter.history] == [letter.error]
        assert app.outbox.status().dead == 1
        (group,) = app.outbox.groups()
        assert (group.fingerprint, group.count) == (letter.group, 1)
        result = app.outbox.replay(group=letter.group[:6], rate="50/s")
        assert (result.selected, result.replayed, result.refused) == (1, 1, ())
        wait_until(lambda: app.audit()[NAME].ok == 1)
        assert backend.ids == [letter.id, letter.id]
        assert app.audit()[NAME].accepted == 2
        wait_until(lambda: app.outbox.audit().targets[NAME].ok == 1)
        assert app.outbox.audit().balanced
        assert list(app.outbox.dead()) == []
        again = app.outbox.replay(letter.id)
        assert again.refused == (Refused(letter.id, "already replayed"),)
    assert (account(tmp_path).accepted, account(tmp_path).replayed) == (2, 1)


def test_a_replay_before_the_start_is_delivered_by_the_start(tmp_path: Path) -> None:
    """Without a running app the messages wait in the outbox, for whichever process delivers."""
    kill(tmp_path / "outbox.db", [row(f"m{at}", NAME, at) for at in range(3)])
    backend = Backend()
    app = Rambla(table_of(tmp_path, backend.handler()))
    assert app.outbox.replay(everything=True).replayed == 3
    assert app.outbox.status().rows == 3
    with app:
        wait_until(lambda: len(backend.received) == 3)
        assert app.flush(timeout_s=10)
    assert backend.received == [0, 1, 2]


def test_a_replay_beside_publishers_and_a_full_mailbox(tmp_path: Path) -> None:
    """Nothing is lost or delivered twice when rows are spilled, published and replayed at the same time."""
    kill(tmp_path / "outbox.db", [row(f"m{at}", NAME, f"m{at}") for at in range(300)])
    backend = Backend()
    table = table_of(tmp_path, backend.handler(), max_pending=20)
    with running(table) as app:
        threads = [
            threading.Thread(
                target=lambda name: [app.publish("orders", f"{name}{at}") for at in range(100)], args=(name,)
            )
            for name in "abc"
        ]
        for thread in threads:
            thread.start()
        waiting = in_background(lambda: [app.flush(timeout_s=60)])
        assert app.outbox.replay(everything=True, rate="100000/s").replayed == 300
        for thread in threads:
            thread.join(30)
        assert app.flush(timeout_s=60)
        waiting[0].join(60)
        assert waiting[1] == [True]
    assert sorted(backend.received) == sorted(
        [*(f"m{at}" for at in range(300)), *(f"{name}{at}" for name in "abc" for at in range(100))]
    )
    assert account(tmp_path).ok == 600
    assert account(tmp_path).pending == 0


def test_nothing_is_published_between_a_move_and_its_delivery(tmp_path: Path) -> None:
    """A row of this process with a number among those that were moved would be delivered twice."""
    kill(tmp_path / "outbox.db", [row(f"m{at}", NAME, at) for at in range(20)])
    backend = Backend()
    with running(table_of(tmp_path, backend.handler())) as app:
        outbox, view = app.outbox.running, app.outbox
        assert outbox is not None
        publishers: list[threading.Thread] = []

        def moved(rows: object) -> None:
            publishers.append(in_background(lambda: [app.publish("orders", "new")])[0])
            publishers[-1].join(0.1)
            assert publishers[-1].is_alive()

        letters = letters_of(outbox.settings)
        selected = letters.select(Selection())
        letters.close()
        for _ in view.replaying(selected, Edit(), rate_per_s=1_000.0, moved=moved):
            pass
        for publisher in publishers:
            publisher.join(10)
        assert app.flush(timeout_s=10)
    assert sorted(backend.received, key=str) == sorted([*range(20), "new"], key=str)


def test_what_dies_again_is_a_new_letter(tmp_path: Path) -> None:
    """With its history, and the number of its replays."""
    backend = Backend()
    backend.answers = [NEVER, NEVER]
    with running(table_of(tmp_path, backend.handler())) as app:
        app.publish("orders", 1).outcomes(timeout_s=10)
        app.outbox.replay(everything=True)
        wait_until(lambda: app.audit()[NAME].fatal == 2)
        wait_until(lambda: list(app.outbox.dead()))
        (letter,) = app.outbox.dead()
        assert (letter.replayed, letter.attempts, len(letter.history)) == (1, 2, 2)


def test_edits_and_another_channel(tmp_path: Path) -> None:
    """``to``, ``values`` and ``payload`` change what is sent; an option that no longer fits is refused."""
    first = row("m0", "probe.gone", {"id": 0})
    second = row("m1", NAME, {"id": 1, "lines": [{"n": 1}]})
    kill(tmp_path / "outbox.db", [first, second])
    backend = Backend()
    with running(table_of(tmp_path, backend.handler())) as app:
        refused = app.outbox.replay("m0").refused
        assert "probe.gone is no enabled channel" in refused[0].reason
        assert app.outbox.replay("m0", to="orders").replayed == 1
        assert app.outbox.replay("m1", values={"lines[0].n": 2}).replayed == 1
        wait_until(lambda: len(backend.received) == 2)
        assert backend.received == [{"id": 0}, {"id": 1, "lines": [{"n": 2}]}]


def test_what_is_refused(tmp_path: Path) -> None:
    """A replay without a selection, a rate that is none, a group that is gone, a channel that is not there."""
    app = Rambla(table_of(tmp_path, Backend().handler()))
    with pytest.raises(TypeError, match="replay needs a selection: ids, group"):
        app.outbox.replay()
    with pytest.raises(TypeError, match="replay needs a selection"):
        app.outbox.replay("m1", everything=True)
    with pytest.raises(ValueError, match="is not a rate"):
        app.outbox.replay("m1", rate="50")
    with pytest.raises(OutboxError, match="no group 'beef' of dead letters"):
        app.outbox.replay(group="beef")
    with pytest.raises(UnknownChannelError):
        app.outbox.replay("m1", to="order")
    with pytest.raises(OutboxError, match="the configuration has none"):
        Rambla({"null": {"channels": {"a": {}}}}).outbox.audit()


def test_a_damaged_letter_is_listed_and_stays(tmp_path: Path) -> None:
    """Its payload is None, with the reason and the bytes; a replay refuses it until it gets a payload."""
    damaged = row("m0", NAME)
    damaged.payload = b"\xc1"
    kill(tmp_path / "outbox.db", [damaged], died=time.time())
    backend = Backend()
    with running(table_of(tmp_path, backend.handler())) as app:
        (letter,) = app.outbox.dead("m0")
        assert (letter.payload, letter.raw) == (None, b"\xc1")
        assert letter.unreadable == "its checksum is wrong"
        assert "its checksum is wrong" in app.outbox.replay("m0").refused[0].reason
        assert app.outbox.replay("m0", payload={"id": 7}).replayed == 1
        wait_until(lambda: backend.received == [{"id": 7}])


def test_the_async_twins(tmp_path: Path) -> None:
    """They do the same without blocking the loop, where the blocking ones warn."""
    asyncio.run(_use_twins(tmp_path))


async def _use_twins(tmp_path: Path) -> None:
    kill(tmp_path / "outbox.db", [row(f"m{at}", NAME, at) for at in range(3)])
    app = Rambla(table_of(tmp_path, Backend().handler()))
    assert (await app.outbox.aaudit()).targets[NAME].fatal == 3
    assert (await app.outbox.astatus()).dead == 3
    assert [group.count for group in await app.outbox.agroups(channel="orders")] == [3]
    assert [letter.payload async for letter in app.outbox.adead("m1", "m2", channel="orders")] == [1, 2]
    with pytest.raises(TypeError, match="needs a selection"):
        await app.outbox.areplay()
    assert (await app.outbox.areplay("m1", rate="50/s")).replayed == 1
    for call, twin in (
        (app.outbox.audit, "aaudit"),
        (app.outbox.status, "astatus"),
        (app.outbox.groups, "agroups"),
        (lambda: list(app.outbox.dead()), "adead"),
        (lambda: app.outbox.replay(everything=True), "areplay"),
    ):
        with pytest.warns(RuntimeWarning, match=f"await outbox.{twin}"):
            call()


def test_a_cancelled_replay_leaves_the_rest(tmp_path: Path) -> None:
    """It can be run again."""
    asyncio.run(_cancel_a_replay(tmp_path))


async def _cancel_a_replay(tmp_path: Path) -> None:
    kill(tmp_path / "outbox.db", [row(f"m{at}", NAME, at) for at in range(30)])
    app = Rambla(table_of(tmp_path, Backend().handler()))
    task = asyncio.create_task(app.outbox.areplay(channel="orders", rate="10/s"))
    while not (await app.outbox.astatus()).rows:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = (await app.outbox.astatus()).dead
    assert left
    assert (await app.outbox.areplay(everything=True, rate="1000/s")).replayed <= left
