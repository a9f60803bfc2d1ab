"""Dead letters of channels that are not durable: kept as well as possible, and counted where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import Handler, PermanentError, RejectedError

NEVER = PermanentError("no queue takes it")


class Tagged(msgspec.Struct):
    """Options, one of which a channel sets."""

    tag: str = "none"
    mode: str = "fast"


def table(folder: Path, handler: type[Handler], **channel: Any) -> dict[str, Any]:
    made = table_of(folder, handler, durable=False, dead_letters=True, **channel)
    durable = {"connection": "default", "durable": True}
    made["probe"]["channels"]["spare"] = durable
    return made


def test_a_letter_of_a_channel_in_memory(tmp_path: Path) -> None:
    """It has the payload, and the options, headers and key that the message gave; the accounts add up."""
    backend = Backend()
    backend.answers = [None, NEVER]
    channel = {"options": {"mode": "slow", "headers": {"a": "1"}}}
    with running(table(tmp_path, backend.handler(Options=Tagged), **channel)) as app:
        app.publish("probe.orders", 1).result(timeout_s=10)
        receipt = app.publish("probe.orders", {"id": 2}, key="k", tag="x", headers={"b": "2"})
        outcome = receipt.outcomes(timeout_s=10)[0]
        assert (outcome.status, receipt.level) == ("fatal", "accepted")
        wait_until(lambda: list(app.outbox.dead()))
        (letter,) = app.outbox.dead()
        assert (letter.id, letter.payload, letter.key) == (outcome.message_id, {"id": 2}, "k")
        assert (letter.options, letter.headers) == ({"tag": "x"}, {"b": "2"})
        assert (letter.attempts, letter.error) == (1, "PermanentError: no queue takes it")
        # The outbox knows of those that died, and of no others.
        assert (account(tmp_path).accepted, account(tmp_path).fatal) == (1, 1)
        assert app.outbox.replay(letter.id, to="spare").replayed == 1
        wait_until(lambda: backend.received[2:] == [{"id": 2}])


def test_a_letter_is_replayed_to_its_own_channel(tmp_path: Path) -> None:
    """It is published again as it was, and removed once it is delivered."""
    seen: list[Any] = []

    class Recording(Handler):
        Options = Tagged

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            seen.append((message.id, message.payload, message.key, options.tag, message.headers))
            if len(seen) == 1:
                raise NEVER

    with running(table(tmp_path, Recording)) as app:
        app.publish("probe.orders", {"message": 2}, key="k", tag="x", headers={"b": "2"}).outcomes(10)
        wait_until(lambda: list(app.outbox.dead()))
        (letter,) = app.outbox.dead()
        assert app.outbox.replay(letter.id).replayed == 1
        assert seen[0] == seen[1] == (letter.id, {"message": 2}, "k", "x", {"b": "2"})
        assert list(app.outbox.dead()) == []
        assert app.outbox.replay(letter.id).refused[0].reason == "already replayed"
        assert app.outbox.audit().targets[NAME].replayed == 1
        assert app.outbox.audit().balanced


def test_a_replayed_letter_that_dies_again(tmp_path: Path) -> None:
    """There is one letter, the new one."""
    backend = Backend()
    backend.answers = [NEVER, NEVER]
    with running(table(tmp_path, backend.handler())) as app:
        app.publish("probe.orders", 1).outcomes(10)
        wait_until(lambda: list(app.outbox.dead()))
        (letter,) = app.outbox.dead()
        assert app.outbox.replay(letter.id).replayed == 1
        (again,) = app.outbox.dead()
        assert (again.id, again.payload) == (letter.id, 1)
        assert again.died > letter.died
    assert len(backend.received) == 2


def test_a_replayed_letter_without_an_outcome_stays(tmp_path: Path) -> None:
    """It expired, or the app does not run: the reason is reported."""
    backend = Backend()
    backend.answers = [NEVER, *[RejectedError("later")] * 10_000]
    options = {"expires_s": 1.5, "retries": 10_000, "backoff": {"initial_s": 0.1, "max_s": 0.1}}
    made = table(tmp_path, backend.handler(), options=options)
    with running(made) as app:
        app.publish("probe.orders", 1).outcomes(10)
        wait_until(lambda: list(app.outbox.dead()))
        (refused,) = app.outbox.replay(channel="orders").refused
        assert refused.reason == "it was published, and ended as expired"
    (refused,) = app.outbox.replay(channel="orders").refused
    assert "the app is stopped" in refused.reason
    assert len(list(app.outbox.dead())) == 1


def test_without_a_durable_channel(tmp_path: Path) -> None:
    """Nothing is delivered from the outbox then, but the letters are there after the stop, all of them."""
    backend = Backend()
    backend.answers = [NEVER] * 50
    made = table_of(tmp_path, backend.handler(), durable=False, dead_letters=True)
    with running(made) as app:
        app.publish_many("orders", range(60)).outcomes(timeout_s=10)
    assert sorted(letter.payload for letter in app.outbox.dead()) == list(range(50))
    assert account(tmp_path).fatal == 50


def test_what_a_fallback_delivered_is_not_dead(tmp_path: Path) -> None:
    """Only what failed there as well."""
    backend = Backend()
    backend.answers = [NEVER, None, NEVER, NEVER]
    with running(table(tmp_path, backend.handler(), fallback="spare")) as app:
        for at in range(2):
            app.publish("probe.orders", at).outcomes(timeout_s=10)
    assert [(one.target, one.payload) for one in app.outbox.dead(channel="orders")] == [(NAME, 1)]


def test_what_is_lost_is_counted(tmp_path: Path, caplog: Any) -> None:
    """A payload that cannot be stored, a file that cannot be written: a reason, and a line in the log."""
    backend = Backend()
    backend.answers = [NEVER, NEVER]
    (tmp_path / "outbox.db").mkdir()
    made = table_of(tmp_path, backend.handler(), durable=False, dead_letters=True, snapshot=False)
    with running(made) as app:
        for payload in ({1, 2}, "fine"):
            assert app.publish("orders", payload).outcomes(timeout_s=10)[0].status == "fatal"
    assert app.status()[NAME].reasons["dead_letter_lost"] == 2
    lost = [record.getMessage() for record in caplog.records if "is lost" in record.getMessage()]
    assert len(lost) == 2
    assert "it could not be stored until the app stopped" in lost[1]
