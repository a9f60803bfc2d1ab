"""Durable channels: stored before publish returns, delivered, removed, kept at a stop, taken over."""

from __future__ import annotations

import datetime
import decimal
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import (
    DuplicateIdError,
    Handler,
    KeptError,
    OptionError,
    OutboxFullError,
    PermanentError,
    PublishError,
    Rambla,
    RejectedError,
    Retry,
    SerializationError,
)


def test_a_message_is_stored_delivered_and_removed(tmp_path: Path) -> None:
    """Its receipt is ``journaled`` from publish's return on, then ``confirmed``; the accounts add up."""
    backend = Backend()
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler())) as app:
        receipt = app.publish("orders", {"id": 42}, key="k")
        assert receipt.level == "journaled"
        assert account(tmp_path).pending == 1
        backend.gate.set()
        receipt.result(timeout_s=10)
        assert receipt.level == "confirmed"
        assert app.audit()[NAME].ok == 1
    assert backend.received == [{"id": 42}]
    assert account(tmp_path).ok == 1
    assert account(tmp_path).pending == 0


def test_what_a_stop_leaves_is_delivered_by_the_next_run(tmp_path: Path) -> None:
    """Nothing is dropped: the receipt says that it is kept, and the next app delivers in the same order."""
    backend = Backend()
    backend.gate.clear()
    app = Rambla(table_of(tmp_path, backend.handler())).start()
    receipts = [app.publish("orders", at) for at in range(5)]
    threading.Timer(0.5, backend.gate.set).start()
    audit = app.stop(0.0)[NAME]
    assert audit.accepted == 5
    assert audit.dropped == 0
    with pytest.raises(KeptError) as caught:
        receipts[4].result(timeout_s=10)
    assert not receipts[4].done()
    later = Backend()
    with running(table_of(tmp_path, later.handler())) as app:
        assert app.flush(timeout_s=10)
        assert app.audit()[NAME].accepted >= 4
    assert later.received in ([0, 1, 2, 3, 4], [1, 2, 3, 4])  # the first one was in flight at the stop
    assert caught.value.message_ids[0] in later.ids
    assert account(tmp_path).pending == 0


def test_what_does_not_fit_waits_in_the_outbox_in_order(tmp_path: Path) -> None:
    """``max_pending`` bounds memory, not acceptance; receipts of spilled messages are settled too."""
    backend = Backend()
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler(), max_pending=10)) as app:
        receipts = [app.publish("orders", at) for at in range(200)]
        (target,) = app._targets()
        assert len(target.mailbox) <= 11
        assert app.audit()[NAME].accepted == 200
        backend.gate.set()
        assert [receipt.outcomes(timeout_s=10)[0].status for receipt in receipts] == ["ok"] * 200
        assert app.flush(timeout_s=10)
        assert app.audit()[NAME] == app.audit()[NAME]
        assert app.audit()[NAME].pending == 0
    assert backend.received == list(range(200))
    assert account(tmp_path).ok == 200


def test_what_is_read_back_goes_behind_what_waits(tmp_path: Path) -> None:
    """Messages without a key keep their order on one worker, although some were never on the disk only."""
    gate, received = threading.Event(), list[int]()

    class Slow(Handler):
        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            gate.wait(20)
            received.append(message.payload)
            if message.payload == 6:
                wait_until(lambda: app.status()[NAME].queued > 4)  # there is room: the next ones are read

    with running(table_of(tmp_path, Slow, max_pending=10, batch_size=1)) as app:
        for at in range(20):
            app.publish("orders", at)
        gate.set()
        assert app.flush(20)
    assert received == list(range(20))


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_publish_is_all_or_nothing(tmp_path: Path, many: bool) -> None:
    """A payload that cannot be stored raises, with its path, before anything is accepted."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler())) as app:
        with pytest.raises(SerializationError, match=r"tags"):
            if many:
                app.publish_many("orders", [1, {"tags": {1, 2}}])
            else:
                app.publish("orders", {"tags": {1, 2}})
        assert app.audit()[NAME].accepted == 0
    assert account(tmp_path).accepted == 0


@pytest.mark.parametrize(
    ("payload", "options", "error"),
    [
        (print, {}, SerializationError),
        (1, {"callbacks": {"on_success": print}}, OptionError),
        (1, {"serializer": "json:dumps"}, OptionError),
        (1, {"id": "x" * 256}, OptionError),
        (1, {"id": "\ud800"}, OptionError),
        (1, {"key": "\ud800"}, OptionError),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, payload: Any, options: Any, error: Any) -> None:
    """A callable, callbacks, a function as serializer, a long id, no text: one clear error from publish."""
    with running(table_of(tmp_path, Backend().handler())) as app, pytest.raises(error):
        app.publish("orders", payload, **options)


def test_a_handler_sees_the_stored_form_from_the_first_attempt_on(tmp_path: Path) -> None:
    """Dates, UUIDs, decimals and big integers keep their type, also after a restart; tuples become lists."""
    values = {
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 1, 2),
        "id": uuid.UUID(int=7),
        "price": decimal.Decimal("1.10"),
        "big": 10**30,
        "raw": b"\0\xff",
        "lines": (1, 2),
    }
    backend = Backend()
    with running(table_of(tmp_path, backend.handler()), stop_s=0.0) as app:
        app.publish("orders", values).result(10)
        backend.gate.clear()
        app.publish("orders", values)
        app.publish("orders", values)
        threading.Timer(0.3, backend.gate.set).start()
    backend.gate.set()
    with running(table_of(tmp_path, backend.handler())) as app:
        assert app.flush(10)
    assert len(backend.received) >= 3
    assert all(one == {**values, "lines": [1, 2]} for one in backend.received)


def test_attempts_survive_a_restart(tmp_path: Path) -> None:
    """A message with one retry left has one left after the restart, and then is a dead letter."""
    backend = Backend()
    backend.answers = [RejectedError("one"), RejectedError("two"), RejectedError("three")]
    options = {"retries": 1, "callbacks": {"on_failure": lambda outcome: Retry(delay_s=2.0)}}
    with running(table_of(tmp_path, backend.handler(), options=options), stop_s=0.0) as app:
        app.publish("orders", "poison")
        wait_until(lambda: len(backend.received) == 1 and app.status()[NAME].queued == 1)
    with running(table_of(tmp_path, backend.handler(), options=options)) as app:
        wait_until(lambda: app.audit()[NAME].fatal == 1)
    assert len(backend.received) == 2
    assert account(tmp_path).dead == 1
    assert account(tmp_path).fatal == 1


def test_a_fatal_message_becomes_a_dead_letter_before_its_receipt_is_settled(tmp_path: Path) -> None:
    """The outcome is announced once the letter is stored."""
    backend = Backend()
    backend.answers = [PermanentError("never")]
    with running(table_of(tmp_path, backend.handler())) as app:
        receipt = app.publish("orders", {"id": 1})
        with pytest.raises(PublishError, match="never"):
            receipt.result(timeout_s=10)
        assert account(tmp_path).dead == 1
    assert account(tmp_path).pending == 0


def test_a_given_id_is_delivered_once(tmp_path: Path) -> None:
    """The second receipt shares the outcome, now and after a restart; another payload is refused."""
    backend = Backend()
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler())) as app:
        first = app.publish("orders", {"n": 1}, id="a")
        second = app.publish("orders", {"n": 1}, id="a")
        with pytest.raises(DuplicateIdError):
            app.publish("orders", {"n": 2}, id="a")
        backend.gate.set()
        assert [one.outcomes(10)[0].status for one in (first, second)] == ["ok", "ok"]
        assert app.flush(10)
    with running(table_of(tmp_path, backend.handler())) as app:
        assert app.publish("orders", {"n": 1}, id="a").outcomes(10)[0].status == "ok"
    assert backend.received == [{"n": 1}]
    assert account(tmp_path).duplicates == 2


def test_a_given_id_is_known_to_a_full_outbox(tmp_path: Path) -> None:
    """The second receipt is that of the first; another message does not fit."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(tmp_path, backend.handler(), {"max_rows": 1}, overflow="raise")
    with running(table) as app:
        first = app.publish("orders", 1, id="a")
        again = app.publish("orders", 1, id="a")
        with pytest.raises(OutboxFullError):
            app.publish("orders", 2, id="b")
        backend.answers = ["done"]
        backend.gate.set()
        assert first.result(10) == again.result(10) == "done"
    assert backend.received == [1]


def test_unknown_is_reported_once_with_on_unknown_report(tmp_path: Path) -> None:
    """The start of an attempt is stored before it is made: a row found started ends as unknown."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), on_unknown="report")) as app:
        app.publish("orders", 1).result(10)
    assert account(tmp_path).ok == 1


def test_a_full_outbox_refuses(tmp_path: Path) -> None:
    """``max_rows``: with ``overflow = "raise"`` at once, otherwise after ``publish_timeout_s``."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(tmp_path, backend.handler(), {"max_rows": 3}, publish_timeout_s=0.2)
    with running(table) as app:
        for at in range(3):
            app.publish("orders", at)
        with pytest.raises(OutboxFullError, match="max_rows"):
            app.publish("orders", 3)
        backend.gate.set()
        assert app.flush(10)
        app.publish("orders", 4).result(10)
    assert account(tmp_path).accepted == 4


def test_messages_of_a_process_that_only_writes_are_delivered_by_another(tmp_path: Path) -> None:
    """``deliver = false``: the receipt says that the message is kept; a delivering app finds it."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), {"deliver": False})) as app:
        receipt = app.publish("orders", "written")
        with pytest.raises(KeptError):
            receipt.result(10)
        assert app.flush(5)
        assert app.audit()[NAME].accepted == 0  # the process that delivers it accepts it
    assert backend.received == []
    with running(table_of(tmp_path, backend.handler(), {"poll_s": 0.05})) as app:
        wait_until(lambda: backend.received == ["written"])
        with running(table_of(tmp_path, backend.handler(), {"deliver": False})) as writer:
            writer.publish("orders", "later")
        wait_until(lambda: backend.received == ["written", "later"])
        assert app.flush(10)
    assert account(tmp_path).ok == 2


def test_rows_of_a_channel_that_is_gone_are_dead_letters(tmp_path: Path, caplog: Any) -> None:
    """They are named once in the log; other channels go on."""
    backend = Backend()
    backend.gate.clear()
    app = Rambla(table_of(tmp_path, backend.handler())).start()
    app.publish("orders", 1)
    threading.Timer(0.3, backend.gate.set).start()
    app.stop(0.0)
    table = table_of(tmp_path, backend.handler())
    table["probe"]["channels"]["invoices"] = table["probe"]["channels"].pop("orders")
    with running(table) as app:
        app.publish("invoices", 2).result(10)
    assert account(tmp_path).dead == 1
    assert "probe.orders, which is not in the configuration" in caplog.text


@pytest.mark.parametrize("setting", [{"enabled": False}, {"durable": False}], ids=["disabled", "not durable"])
def test_rows_of_a_channel_that_is_switched_off_are_kept(
    tmp_path: Path, setting: dict[str, bool], caplog: Any
) -> None:
    """Until it is enabled and durable again; one warning names it."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(tmp_path, backend.handler())
    table["probe"]["channels"]["other"] = {"connection": "default", "durable": True}
    with running(table, stop_s=0.0) as app:
        app.publish_many("orders", range(3))
        threading.Timer(0.3, backend.gate.set).start()
    table["probe"]["channels"]["orders"] |= setting
    with running(table) as app:
        app.publish("other", "passes").result(10)
    assert caplog.text.count("probe.orders has messages, but is disabled or not durable") == 1
    assert account(tmp_path).dead == 0
    table["probe"]["channels"]["orders"] |= {"enabled": True, "durable": True}
    with running(table) as app:
        assert app.flush(10)
    assert {0, 1, 2, "passes"} == set(backend.received)
    assert account(tmp_path).ok == 3


def test_threads_share_commits(tmp_path: Path) -> None:
    """Publishers that wait beside each other are committed together, each in its own order of keys."""
    backend = Backend()
    commits: list[int] = []
    with running(table_of(tmp_path, backend.handler())) as app:
        journal = app._lifecycle.outbox.journal  # type: ignore[union-attr]
        write = journal.write

        def counted(acceptances: Any, changes: Any) -> None:
            commits.append(len(acceptances))
            write(acceptances, changes)

        journal.write = counted

        def publish(thread: int) -> None:
            for at in range(50):
                app.publish("orders", (thread, at), key=str(thread))

        threads = [threading.Thread(target=publish, args=(one,)) for one in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert app.flush(20)
    assert sum(commits) == 400
    assert max(commits) > 1
    for thread_number in range(8):
        mine = [at for thread, at in backend.received if thread == thread_number]
        assert mine == list(range(50))


def test_a_fan_out_is_one_commit_and_each_target_has_its_row(tmp_path: Path) -> None:
    """Targets that are not durable are accepted after the commit."""
    one, two = Backend(), Backend()
    table = table_of(tmp_path, one.handler())
    table["other"] = {
        "handler": two.handler(),
        "connections": {"default": {}},
        "channels": {"orders": {"connection": "default"}},
    }
    with running(table) as app:
        receipt = app.publish("orders", 5)
        assert receipt.level in ("accepted", "confirmed")
        receipt.result(10)
        assert [audit.ok for audit in app.audit().values()] == [1, 1]
    assert (one.received, two.received) == ([5], [5])
    assert one.ids == two.ids


def test_what_waits_too_long_becomes_a_dead_letter(tmp_path: Path) -> None:
    """``max_age_s`` bounds the age of what waits, in the mailbox and behind it."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(tmp_path, backend.handler(), {"max_age_s": 0.2, "poll_s": 0.05}, max_pending=3)
    with running(table) as app:
        receipts = [app.publish("orders", at) for at in range(10)]
        wait_until(lambda: app.audit()[NAME].fatal == 9)
        backend.gate.set()
        statuses = [receipt.outcomes(10)[0].status for receipt in receipts]
    assert statuses == ["ok", *["fatal"] * 9]
    assert account(tmp_path).dead == 9


def test_observers_see_what_the_outbox_does(tmp_path: Path) -> None:
    """A listener gets ``journaled``, ``dead`` and ``adopted`` beside the usual events, in order."""
    backend = Backend()
    backend.answers = [None, PermanentError("never")]
    kinds: list[str] = []
    with running(table_of(tmp_path, backend.handler())) as app:
        end = app.listen(lambda event: kinds.append(event.kind))
        app.publish("orders", 1).result(10)
        app.publish("orders", 2).outcomes(10)
        assert app.flush(10)
        end()
        backend.gate.clear()
        app.publish("orders", 3)
        app.publish("orders", 4)
        threading.Timer(0.3, backend.gate.set).start()
        app.stop(0.0)
    seen: list[Any] = []
    later = Rambla(table_of(tmp_path, backend.handler()))
    later.listen(lambda event: seen.append((event.kind, event.data)))
    with later.start():
        assert later.flush(10)
    assert [kind for kind in kinds if kind != "worker"] == [
        *("published", "journaled", "attempt", "outcome"),
        *("published", "journaled", "attempt", "dead", "outcome"),
    ]
    assert seen[0][0] == "adopted"
    assert seen[0][1]["number"] >= 1


class Closed(Handler):
    """Takes nothing."""

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        raise AssertionError


def test_a_disabled_channel_stores_nothing(tmp_path: Path) -> None:
    """It drops, as any disabled channel."""
    with running(table_of(tmp_path, Closed, enabled=False)) as app:
        assert app.publish("orders", 1).outcomes(5)[0].status == "dropped"
    assert not (tmp_path / "outbox.db").exists()
