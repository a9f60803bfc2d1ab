"""What the log says about deliveries and connections."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import rambla_py as rambla
from rambla_py.errors import describe
from rambla_py.runtime.delivery.reconnect import _Losses
from rambla_py.runtime.target.delivery_log import DeliveryLog

QUICK = {"initial_s": 0.0, "max_s": 0.0}


@contextmanager
def running(answer: Callable[[Any], Any], **channel: Any) -> Iterator[rambla.Rambla]:
    """Run an app with one channel whose handler returns the given answers."""

    class Answering(rambla.Handler):
        """Answers."""

        guarantee = "none"

        def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
            return answer(message)

    table = {"probe": {"handler": Answering, "connections": {"c": {}}, "channels": {"orders": channel}}}
    with rambla.Rambla(table) as app:
        yield app


def refuse(message: Any) -> Any:
    raise rambla.PermanentError("the server refuses this order")


def fail(message: Any) -> Any:
    raise ValueError("no luck")


def about(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if words in record.getMessage()]


def test_a_delivery_that_ends_at_once_is_one_line_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    """Target, id, status and error in the text; the same in the record's fields."""
    with running(refuse) as app:
        app.publish("orders", "payl0ad", id="order-4711", key="k3y").outcomes(timeout_s=5)
    (record,) = about(caplog, "refuses this order")
    text = "probe.orders: order-4711: fatal after 1 attempt: PermanentError: the server refuses this order"
    assert (record.levelname, record.getMessage()) == ("ERROR", text)
    fields = {name: value for name, value in vars(record).items() if name.startswith("rambla_")}
    assert fields == {
        "rambla_service": "probe",
        "rambla_channel": "orders",
        "rambla_message_id": "order-4711",
        "rambla_attempts": 1,
        "rambla_status": "fatal",
        "rambla_error": "PermanentError: the server refuses this order",
        "rambla_error_class": "PermanentError",
    }
    assert "payl0ad" not in caplog.text
    assert "k3y" not in caplog.text


def test_an_attempt_that_is_repeated_is_a_warning_and_the_end_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line for the first attempt, with the time of the next; one for the end."""
    with running(fail, options={"retries": 1, "backoff": QUICK}) as app:
        app.publish("orders", 1, id="order-1").outcomes(timeout_s=5)
    assert [(record.levelname, record.getMessage()) for record in about(caplog, "no luck")] == [
        ("WARNING", "probe.orders: order-1: attempt 1 failed, next at once: ValueError: no luck"),
        ("ERROR", "probe.orders: order-1: fatal after 2 attempts: ValueError: no luck"),
    ]


def test_a_flood_of_failures_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Some lines in full, and the number of the others by the stop at the latest; nothing is left out."""
    number = 300
    with running(refuse) as app:
        app.publish_many("orders", list(range(number))).outcomes(timeout_s=20)
    full = about(caplog, "fatal after")
    (counted,) = about(caplog, "more ended as fatal")
    assert len(full) < 30
    assert f"probe.orders: {number - len(full)} more ended as fatal" in counted.getMessage()
    assert counted.levelname == "ERROR"


def test_drops_for_want_of_room_are_one_line_and_a_number(caplog: pytest.LogCaptureFixture) -> None:
    """The first with its id, then how many more."""
    gate = threading.Event()
    with running(lambda message: gate.wait(10), max_pending=1, overflow="drop_newest") as app:
        for each in range(50):
            app.publish("orders", each)
        gate.set()
    lines = about(caplog, "mailbox full")
    dropped = app.audit()["probe.orders"].dropped
    assert [record.levelname for record in lines] == ["WARNING", "WARNING"]
    assert f"{dropped - 1} more dropped" in lines[1].getMessage()


def test_the_timer_writes_what_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """After ten seconds, without another failure; before that, and without repeats, nothing."""
    with running(lambda message: None) as app:
        target = app._lifecycle.targets()[0]
        writing, now = DeliveryLog(target.config, describe), 0.0
        receipt = app.publish("orders", 1)
        receipt.result(timeout_s=5)
        delivery = receipt._ended
        for _ in range(3):
            writing.retried(delivery, ValueError("no luck"), 0.0)
        assert writing.waiting
        writing.write_repeats(now)
        assert about(caplog, "more failed attempts") == []
        writing.write_repeats(float("inf"), all_of_them=False)
    assert len(about(caplog, "2 more failed attempts")) == 1
    assert not about(caplog, "powers")


def test_a_connection_that_is_back_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The loss is a warning; the return one INFO line, with the outage and what waits, and the worker's fields.

    What repeats at once is in no line of its own.
    """
    caplog.set_level(logging.INFO, "rambla_py")
    answers = iter([rambla.ConnectionLostError("gone")] * 3)

    class Losing(rambla.Handler):
        """Loses its first connection."""

        guarantee = "none"

        def connect(self) -> str:
            return "connected"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            for error in answers:
                raise error

    table = {"probe": {"handler": Losing, "connections": {"c": {}}, "channels": {"orders": {}}}}
    with rambla.Rambla(table) as app:
        app.publish("orders", 1).result(timeout_s=20)
        assert app.status()["probe.orders"].lost_connections == 3
    lines = [record for record in caplog.records if record.name == "rambla_py.worker"]
    assert [record.levelname for record in lines] == ["WARNING", "INFO"]
    assert "reconnected after" in lines[1].getMessage()
    assert "1 messages wait" in lines[1].getMessage()
    assert all(
        (record.rambla_service, record.rambla_channel, record.rambla_worker) == ("probe", "orders", 0)
        for record in lines
    )


def test_losses_that_repeat_are_one_line_in_ten_seconds_with_their_number() -> None:
    """Others, and the first after that time, have a line of their own."""
    losses = _Losses()
    assert [losses.add("gone", at) for at in (1.0, 2.0, 10.9)] == [1, 0, 0]
    assert not losses.logged
    assert [losses.add("gone", at) for at in (11.0, 12.0)] == [3, 0]
    assert losses.add("reset", 13.0) == 1
    assert losses.logged


def test_debug_keeps_tracebacks() -> None:
    """Outcome.error has its traceback with ``debug``, and has none without."""
    logging.getLogger("rambla_py").setLevel(logging.CRITICAL)

    class Failing(rambla.Handler):
        """Fails."""

        guarantee = "none"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            fail(message)

    kept = []
    for debug in (False, True):
        service = {"handler": Failing, "connections": {"c": {}}, "channels": {"orders": {}}}
        options = {"debug": debug, "options": {"retries": 0}}
        with rambla.Rambla({"rambla": options, "probe": service}) as app:
            receipt = app.publish("orders", 1)
            (outcome,) = receipt.outcomes(timeout_s=5)
            app.flush(timeout_s=5)
        kept.append(outcome.error is not None and outcome.error.__traceback__ is not None)
    logging.getLogger("rambla_py").setLevel(logging.NOTSET)
    assert kept == [False, True]
