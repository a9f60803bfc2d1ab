"""Tests of the steps of a script on every level of the contract, through a real app."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rambla_py import Failed, Handler, Message, Outcome, Rambla
from rambla_py.testing import (
    Script,
    ScriptedAsyncHandler,
    ScriptedBatchHandler,
    ScriptedHandler,
    ScriptedPublishHandler,
    Step,
    forget,
    script,
)

LEVELS = [ScriptedHandler, ScriptedBatchHandler, ScriptedPublishHandler, ScriptedAsyncHandler]
every_level = pytest.mark.parametrize("level", LEVELS)


@pytest.fixture
def played() -> Iterator[Script]:
    name = uuid.uuid4().hex
    found = script(name)
    yield found
    found.release()
    forget(name)


@contextmanager
def running(level: type[Handler], played: Script, **channel: Any) -> Iterator[Rambla]:
    options = {"retries": 2, "backoff": {"initial_s": 0.001}, **channel.pop("options", {})}
    connections = {"main": {"name": played.name}}
    channels = {"orders": {**channel, "options": options}}
    with Rambla({"s": {"handler": level, "connections": connections, "channels": channels}}) as app:
        try:
            yield app
        finally:
            played.release()
    assert app.audit()["s.orders"].balanced


def delivered(app: Rambla, *payloads: Any) -> list[Outcome]:
    return app.publish_many("orders", payloads).outcomes(timeout_s=10)


def ends(outcomes: list[Outcome]) -> list[tuple[str, int]]:
    return [(outcome.status, outcome.attempts) for outcome in outcomes]


@every_level
def test_what_is_not_planned_arrives_and_succeeds(level: type[Handler], played: Script) -> None:
    """An empty script delivers everything, in order, as bytes."""
    with running(level, played) as app:
        assert ends(delivered(app, 1, "two", b"three")) == [("ok", 1)] * 3
    assert sorted(arrival.body for arrival in played.arrived()) == [b"1", b"three", b"two"]


@every_level
def test_fail_fails_one_attempt(level: type[Handler], played: Script) -> None:
    """It does not arrive at first, the retry does, and the messages beside it do not notice."""
    played.plan(Step.fail("quota"), where=lambda message: message.payload == 2)
    with running(level, played) as app:
        assert ends(delivered(app, 1, 2, 3)) == [("ok", 1), ("ok", 2), ("ok", 1)]
    assert [arrival.attempt for arrival in played.arrived() if arrival.payload == 2] == [2]


@every_level
def test_fail_for_good_is_fatal(level: type[Handler], played: Script) -> None:
    """With ``retryable=False`` no retry follows."""
    played.plan(Step.fail("refused", retryable=False))
    with running(level, played) as app:
        assert ends(delivered(app, 1)) == [("fatal", 1)]


@every_level
@pytest.mark.parametrize("error", [ValueError("no"), OSError("no"), SystemExit(3), KeyboardInterrupt()])
def test_raising_is_a_failed_attempt(level: type[Handler], played: Script, error: BaseException) -> None:
    """Whatever leaves the handler costs an attempt and nothing else."""
    played.plan(Step.raising(error))
    with running(level, played) as app:
        assert ends(delivered(app, 1)) == [("ok", 2)]
        assert ends(delivered(app, 2)) == [("ok", 1)]


@every_level
def test_the_plan_of_one_attempt_leaves_the_others(level: type[Handler], played: Script) -> None:
    """``attempt=2`` fails the first retry only; ``times=None`` does so for each message."""
    played.plan(Step.fail("first"), attempt=1, times=None)
    played.plan(Step.fail("second"), attempt=2, times=None)
    with running(level, played) as app:
        assert ends(delivered(app, 1, 2)) == [("ok", 3)] * 2


@every_level
def test_delay_answers_late(level: type[Handler], played: Script) -> None:
    """The message arrives at once, and its outcome comes when the delay is over."""
    played.plan(Step.delay(0.1, "late"))
    with running(level, played) as app:
        outcome = delivered(app, 1)[0]
    assert (outcome.status, outcome.result) == ("ok", "late")
    assert outcome.took_s >= 0.09


@every_level
def test_hang_waits_for_release(level: type[Handler], played: Script) -> None:
    """Nothing is known of the message until the script is released."""
    played.plan(Step.hang("released"))
    with running(level, played) as app:
        receipt = app.publish("orders", 1)
        assert played.wait_until(lambda script: script.hanging == 1)
        assert not receipt.done()
        assert played.release() == 1
        assert receipt.result(timeout_s=10) == "released"


@pytest.mark.parametrize("level", [ScriptedHandler, ScriptedAsyncHandler])
def test_many_may_hang_at_once(level: type[Handler], played: Script) -> None:
    """Where many are in flight, one that hangs does not hold up those behind it."""
    played.plan(Step.hang(), where=lambda message: message.payload == 1)
    with running(level, played) as app:
        first = app.publish("orders", 1)
        assert played.wait_until(lambda script: script.hanging == 1)
        assert ends(delivered(app, 2, 3)) == [("ok", 1)] * 2
        assert not first.done()


@every_level
def test_an_answer_to_an_attempt_that_was_given_up_is_ignored(level: type[Handler], played: Script) -> None:
    """After ``attempt_timeout_s`` the message is retried, and a late answer changes nothing."""
    played.plan(Step.hang("too late"))
    with running(level, played, attempt_timeout_s=0.2) as app:
        receipt = app.publish("orders", Message(1, id="m-1"))
        assert played.wait_until(lambda script: len(script.arrived()) == 2)
        outcome = receipt.outcomes(timeout_s=10)[0]
        played.release()
        assert (outcome.status, outcome.result) == ("ok", None)
        assert ends(delivered(app, 2)) == [("ok", 1)]
    assert [arrival.id for arrival in played.arrived()][:2] == ["m-1", "m-1"]
    assert app.audit()["s.orders"].ok == 2


@every_level
@pytest.mark.parametrize("step", [Step.lose_before_write(), Step.lose_after_write()], ids=["before", "after"])
def test_a_loss_spends_no_retry(level: type[Handler], played: Script, step: Step) -> None:
    """The worker reconnects and delivers; what was written arrives again, with the same id."""
    played.plan(step)
    with running(level, played, options={"retries": 0}) as app:
        assert ends(app.publish("orders", Message(1, id="m-1")).outcomes(timeout_s=10)) == [
            ("ok", step.arrivals + 1)
        ]
        assert ends(delivered(app, 2)) == [("ok", 1)]
    assert played.losses == 1
    assert played.connects == 2
    assert [arrival.id for arrival in played.arrived()].count("m-1") == step.arrivals + 1


@every_level
def test_a_message_that_breaks_each_connection_does_not_loop(level: type[Handler], played: Script) -> None:
    """After two losses it is sent alone, and losses cost attempts: it ends; the others are delivered."""
    played.plan(Step.lose_after_write(), where=lambda message: message.payload == "poison", times=None)
    with running(level, played, options={"retries": 1}) as app:
        good, poison, more = delivered(app, 1, "poison", 2)
        assert (good.status, poison.status, more.status) == ("ok", "fatal", "ok")


@every_level
def test_duplicate_arrives_twice(level: type[Handler], played: Script) -> None:
    """The server has the message twice, with one id, and there is one outcome."""
    played.plan(Step.duplicate())
    with running(level, played) as app:
        assert ends(delivered(app, 1)) == [("ok", 1)]
    assert len({arrival.id for arrival in played.arrived()}) == 1
    assert len(played.arrived()) == 2


@pytest.mark.parametrize(
    ("first", "second", "end"),
    [("once", Failed("twice"), ("ok", 1)), (Failed("once", retryable=False), "twice", ("fatal", 1))],
    ids=["ok-failed", "failed-ok"],
)
def test_the_second_settle_is_ignored(played: Script, first: Any, second: Any, end: tuple[str, int]) -> None:
    """Only the first answer counts, and the accounts add up."""
    played.plan(Step.settle_twice(first, second))
    with running(ScriptedHandler, played) as app:
        assert ends(delivered(app, 1)) == [end]
        assert ends(delivered(app, 2)) == [("ok", 1)]


@pytest.mark.parametrize("answer", [None, [], [1, 2, 3, 4], "ok", 7, {}], ids=repr)
def test_nonsense_fails_the_batch(played: Script, answer: Any) -> None:
    """A batch that is answered with anything but a result for each has failed, and is tried again."""
    played.plan(Step.nonsense(answer))
    with running(ScriptedBatchHandler, played) as app:
        assert ends(delivered(app, 1)) == [("ok", 2)]


@every_level
def test_every_connection_is_closed(level: type[Handler], played: Script) -> None:
    """What was connected is closed, after losses and at the stop."""
    played.plan(Step.lose_before_write())
    with running(level, played, count=2) as app:
        delivered(app, *range(20))
    assert played.wait_until(lambda script: script.closes == script.connects)
