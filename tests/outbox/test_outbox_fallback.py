"""Fallbacks of durable channels."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import KeptError, PermanentError, PublishError, Rambla

SPARE = "other.spare"


def test_what_a_fallback_could_not_deliver_before_the_stop_is_kept(tmp_path: Path) -> None:
    """It has expired, and its fallback is not durable: the next run expires it again, and hands it over."""
    backend, spare = Backend(), Backend()
    table = table_of(
        tmp_path,
        backend.handler(),
        fallback="spare",
        fallback_on=["expired"],
        options={"expires_s": 0.05},
    )
    table["other"] = {
        "handler": spare.handler(),
        "connections": {"default": {}},
        "channels": {"spare": {"connection": "default"}},
    }
    backend.gate.clear()
    spare.gate.clear()
    app = Rambla(table).start()
    app.publish_many("orders", ["in flight", "waits"])
    wait_until(lambda: app.audit()["other.spare"].accepted == 1)
    threading.Timer(0.3, backend.gate.set).start()
    app.stop(0.0)
    threading.Timer(0.0, spare.gate.set).start()
    later = Backend()
    table["other"]["handler"] = later.handler()
    with running(table):
        wait_until(lambda: "waits" in later.received)
    assert account(tmp_path).pending == 0


def with_spare(folder: Path, backend: Backend, spare: Backend, **outbox: Any) -> dict[str, Any]:
    """Return a configuration of two durable channels: ``spare`` is the fallback of ``orders``."""
    table = table_of(folder, backend.handler(), outbox, fallback="spare")
    table["other"] = {
        "handler": spare.handler(),
        "connections": {"default": {}},
        "channels": {"spare": {"connection": "default", "durable": True}},
    }
    return table


def refusing(number: int) -> Backend:
    """Return a backend that fails this many messages for good."""
    backend = Backend()
    backend.answers = [PermanentError("never")] * number
    return backend


def test_a_fallback_has_a_row_of_its_own(tmp_path: Path) -> None:
    """It is stored in the transaction that ends the primary's row, and ends by itself."""
    backend, spare = refusing(1), Backend()
    spare.gate.clear()
    with running(with_spare(tmp_path, backend, spare)) as app:
        receipt = app.publish("orders", {"at": 1}, key="k", headers={"h": "1"})
        wait_until(lambda: account(tmp_path, SPARE).pending == 1)
        found = account(tmp_path)
        assert (found.fatal, found.pending, found.dead) == (1, 0, 0)
        spare.gate.set()
        (outcome,) = receipt.outcomes(10)
        assert outcome.succeeded
        assert outcome.fallback is not None
    assert backend.ids == spare.ids
    assert (account(tmp_path, SPARE).ok, account(tmp_path).dead) == (1, 0)


def test_the_next_run_continues_with_the_fallback(tmp_path: Path) -> None:
    """The primary had its retries: it does not see the message again. Its receipt raises ``KeptError``."""
    backend, spare, later = refusing(2), Backend(), Backend()
    spare.gate.clear()
    app = Rambla(with_spare(tmp_path, backend, spare)).start()
    receipt = app.publish_many("orders", [{"at": 1}, {"at": 2}])
    wait_until(lambda: account(tmp_path, SPARE).pending == 2)
    threading.Timer(0.3, spare.gate.set).start()
    app.stop(0.0)
    with pytest.raises(KeptError):
        receipt.result(10)
    with running(with_spare(tmp_path, again := Backend(), later)):
        wait_until(lambda: {"at": 2} in later.received)
    assert not again.received
    assert account(tmp_path, SPARE).pending == account(tmp_path).pending == 0


def test_a_fallback_that_fails_too_is_the_dead_letter(tmp_path: Path) -> None:
    """There is one letter, of the channel that had the message last."""
    with running(with_spare(tmp_path, refusing(1), refusing(1))) as app:
        with pytest.raises(PublishError):
            app.publish("orders", 1).result(10)
        letters = list(app.outbox.dead())
    assert [letter.target for letter in letters] == [SPARE]


def with_list(
    folder: Path, backend: Backend, first: Backend, last: Backend, **of_last: Any
) -> dict[str, Any]:
    """Return a configuration with the fallbacks ``spare`` and ``last``."""
    table = with_spare(folder, backend, first)
    table["probe"]["channels"]["orders"]["fallback"] = ["spare", "last"]
    channel = {"durable": True, **of_last}
    table["third"] = {**table["other"], "handler": last.handler(), "channels": {"last": channel}}
    return table


@pytest.mark.parametrize("durable", [True, False])
def test_each_fallback_of_a_list_has_its_row(tmp_path: Path, durable: bool) -> None:
    """What the first one refuses is no dead letter, and the second one delivers it once."""
    backend, first, last = refusing(1), refusing(1), Backend()
    first.gate.clear()
    with running(with_list(tmp_path, backend, first, last, durable=durable)) as app:
        receipt = app.publish("orders", 1)
        wait_until(lambda: account(tmp_path, SPARE).pending == 1)
        assert account(tmp_path).pending == 0
        first.gate.set()
        (outcome,) = receipt.outcomes(10)
        assert outcome.succeeded
        assert outcome.fallback is not None
        assert [outcome.channel, outcome.fallback.channel, outcome.final.channel] == [
            "orders",
            "spare",
            "last",
        ]
    assert backend.ids == first.ids == last.ids
    found = account(tmp_path), account(tmp_path, SPARE)
    assert [(one.fatal, one.dead, one.pending) for one in found] == [(1, 0, 0)] * 2
    assert account(tmp_path, "third.last").ok == durable


def test_the_next_run_continues_the_list(tmp_path: Path) -> None:
    """The primary does not see the message again; what the first fallback refuses then goes to the second."""
    first = refusing(0)
    first.gate.clear()
    app = Rambla(with_list(tmp_path, refusing(1), first, Backend())).start()
    app.publish("orders", 1)
    wait_until(lambda: account(tmp_path, SPARE).pending == 1)
    threading.Timer(0.3, first.gate.set).start()
    first.answers = [ValueError("again")]
    app.stop(0.0)
    again, last = Backend(), Backend()
    with running(with_list(tmp_path, again, refusing(1), last)):
        wait_until(lambda: last.received == [1])
    assert not again.received
    assert [account(tmp_path, name).pending for name in (NAME, SPARE, "third.last")] == [0, 0, 0]


def test_the_last_of_a_list_is_the_dead_letter(tmp_path: Path) -> None:
    """There is one letter, of the channel that had the message last; it is replayed to that one."""
    with running(with_list(tmp_path, refusing(1), refusing(1), refusing(1))) as app:
        with pytest.raises(PublishError):
            app.publish("orders", 1).result(10)
        assert [letter.target for letter in app.outbox.dead()] == ["third.last"]
        assert app.outbox.replay(everything=True).replayed == 1
        wait_until(lambda: account(tmp_path, "third.last").ok == 1)


def test_a_fallback_needs_no_room_of_its_own(tmp_path: Path) -> None:
    """A full outbox holds its row in place of the primary's."""
    backend, spare = refusing(1), Backend()
    spare.gate.clear()
    with running(with_spare(tmp_path, backend, spare, max_rows=1)) as app:
        receipt = app.publish("orders", 1)
        wait_until(lambda: account(tmp_path, SPARE).pending == 1)
        assert account(tmp_path).pending == 0
        spare.gate.set()
        assert receipt.outcomes(10)[0].succeeded


def with_two_spares(folder: Path, backend: Backend, spare: Backend, **outbox: Any) -> dict[str, Any]:
    """Return a configuration in which ``spare``, the fallback of ``orders``, has two targets."""
    table = with_spare(folder, backend, spare, **outbox)
    table["third"] = {**table["other"], "handler": Backend().handler()}
    return table


def test_without_room_in_the_outbox_the_primary_keeps_its_row(tmp_path: Path) -> None:
    """Two rows do not fit in place of one: the fallback delivers all the same."""
    backend, spare = refusing(1), Backend()
    spare.gate.clear()
    with running(with_two_spares(tmp_path, backend, spare, max_rows=1)) as app:
        receipt = app.publish("orders", 1)
        wait_until(lambda: app.audit()[SPARE].accepted == 1)
        assert (account(tmp_path).pending, account(tmp_path, SPARE).accepted) == (1, 0)
        spare.gate.set()
        assert receipt.outcomes(10)[0].succeeded
    assert account(tmp_path).pending == 0


def test_without_room_in_the_outbox_a_fallback_that_fails_loses_nothing(tmp_path: Path) -> None:
    """The primary's row, which had expired, becomes the dead letter."""
    backend, spare = Backend(), refusing(1)
    backend.gate.clear()
    table = with_two_spares(tmp_path, backend, spare, max_rows=2)
    orders = table["probe"]["channels"]["orders"]
    orders |= {"fallback_on": ["expired"], "options": {"expires_s": 0.05}}
    with running(table) as app:
        app.publish_many("orders", ["in flight", "waits"])
        wait_until(lambda: account(tmp_path).dead == 1)
        assert [letter.payload for letter in app.outbox.dead()] == ["waits"]
        backend.gate.set()


def test_more_than_the_fallback_has_room_for(tmp_path: Path) -> None:
    """What waits for room there ends as well, and in the order of its key."""
    spare = Backend()
    table = with_spare(tmp_path, refusing(50), spare)
    table["other"]["channels"]["spare"]["max_pending"] = 2
    with running(table) as app:
        receipt = app.publish_many("orders", range(50), key="k")
        assert all(outcome.succeeded for outcome in receipt.outcomes(30))
    assert spare.received == list(range(50))
    assert account(tmp_path, SPARE).ok == 50
