"""Signal handlers that raise, or publish, at every point of a durable publish."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import outboxes
import pytest
from interruptions import Point, every_point, interrupted_at
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import NotRunningError, OutboxBusyError, Rambla

FILES = (
    *(f"outbox/{name}.py" for name in ("outbox", "placement", "writer", "pending", "feed")),
    *(f"outbox/sqlite/{name}.py" for name in ("journal", "connection", "transaction", "statements", "room")),
    *(f"_internal/{name}.py" for name in ("fork_lock", "sqlite_lock")),
)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_exception_at_every_point_of_a_publish(tmp_path: Path, error: type[BaseException]) -> None:
    """The message is stored or not, as a whole; what is stored is delivered, once, by the same app."""
    backend = Backend()
    promised: list[Any] = []
    with running(table_of(tmp_path, backend.handler(), {"poll_s": 0.1})) as app:

        def publish(number: int) -> Point:
            try:
                with interrupted_at(number, FILES, lambda: _raise(error)) as point:
                    app.publish("orders", ["mine", number])
                promised.append(["mine", number])
            except error:
                pass
            _publish_beside(app, ["after", number])
            promised.append(["after", number])
            return point

        assert every_point(publish) > 40
        wait_until(lambda: account(tmp_path).pending == 0)
        assert app.flush(10)
        assert app.audit()[NAME].pending == 0
    assert [one for one in promised if one not in backend.received] == []
    assert len(backend.received) == len({tuple(one) for one in backend.received}) == account(tmp_path).ok


def test_a_publish_at_every_point_of_a_publish(tmp_path: Path) -> None:
    """It is stored as any other, or raises ``OutboxBusyError``; neither waits for ever."""
    backend = Backend()
    made, refused = [], []
    with running(table_of(tmp_path, backend.handler())) as app:

        def inner(number: int) -> None:
            try:
                app.publish("orders", ["inner", number])
                made.append(["inner", number])
            except OutboxBusyError:
                refused.append(number)

        def publish(number: int) -> Point:
            with interrupted_at(number, FILES, lambda: inner(number)) as point:
                app.publish("orders", ["outer", number])
            made.append(["outer", number])
            return point

        assert every_point(publish) > 40
        assert app.flush(10)
    assert sorted(backend.received) == sorted(made)
    assert refused


def test_a_publish_at_every_point_of_an_audit(tmp_path: Path) -> None:
    """The main thread reads the journal, and a signal handler publishes: stored, or ``OutboxBusyError``."""
    # Nothing delivers: a keeper that is the writer would wait for the journal, and the handler for the keeper.
    with running(table_of(tmp_path, Backend().handler(), {"deliver": False})) as app:
        journal = app._lifecycle.outbox.journal  # type: ignore[union-attr]
        app.publish("orders", 0)
        refused = []

        def inner() -> None:
            try:
                app.publish("orders", 1)
            except OutboxBusyError:
                refused.append(1)

        def audit(number: int) -> Point:
            with interrupted_at(number, FILES, inner) as point:
                assert journal.accounts()[NAME].difference == 0
            return point

        assert every_point(audit) > 5
        assert refused
        assert app.flush(10)


def test_a_handler_that_lets_the_refusal_through(tmp_path: Path) -> None:
    """The interrupted publish raises it; the message may be stored, and is delivered then."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), {"poll_s": 0.1})) as app:

        def publish(number: int) -> Point:
            try:
                with interrupted_at(number, FILES, lambda: app.publish("orders", "inner")) as point:
                    app.publish("orders", ["outer", number])
            except OutboxBusyError:
                assert point.reached
            _publish_beside(app, ["after", number])
            return point

        every_point(publish)
        wait_until(lambda: account(tmp_path).pending == 0)
        assert app.flush(10)
    after = [one[1] for one in backend.received if one[0] == "after"]
    assert after == list(range(len(after)))
    assert len(after) > 40


def test_ctrl_c_in_a_publisher_that_waits_for_another(tmp_path: Path) -> None:
    """A real SIGINT while another thread commits: ``publish`` raises, the others go on."""
    backend = Backend()
    waits, go_on = threading.Event(), threading.Event()
    with running(table_of(tmp_path, backend.handler())) as app:
        app.publish("orders", "first").result(10)
        journal = app._lifecycle.outbox.journal  # type: ignore[union-attr]
        write = journal.write

        def slow(acceptances: Any, changes: Any) -> None:
            if any(acceptances):
                waits.set()
                go_on.wait(60)
            write(acceptances, changes)

        journal.write = slow
        other = threading.Thread(target=app.publish, args=("orders", "other"), daemon=True)
        other.start()
        assert waits.wait(10)
        writer = app._lifecycle.outbox._writer  # type: ignore[union-attr]
        threading.Thread(target=_interrupt_once_it_waits, args=(writer,), daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            app.publish("orders", "mine")
        go_on.set()
        other.join(10)
        assert not other.is_alive()
        journal.write = write
        app.publish("orders", "last").result(10)
        assert app.flush(10)
    assert backend.received == ["first", "other", "last"]


def test_publishers_that_meet_a_stop(tmp_path: Path) -> None:
    """What ``publish`` returned for is delivered or kept; afterwards it raises, and stores nothing."""
    backend = Backend()
    promised: list[Any] = []

    def publish(app: Rambla, thread: int) -> None:
        at = 0
        while True:
            try:
                app.publish("orders", [thread, at])
            except Exception:
                return
            promised.append([thread, at])
            at += 1

    for _ in range(5):
        app = Rambla(table_of(tmp_path, backend.handler())).start()
        threads = [threading.Thread(target=publish, args=(app, one), daemon=True) for one in range(3)]
        for thread in threads:
            thread.start()
        enough = len(promised) + 20
        wait_until(lambda enough=enough: len(promised) > enough)
        app.stop(0.05)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    with running(table_of(tmp_path, backend.handler())) as app:
        assert app.flush(20)
    assert [one for one in promised if one not in backend.received] == []
    assert account(tmp_path).pending == 0


def test_a_publisher_that_comes_after_the_stop(tmp_path: Path) -> None:
    """The app ran when it began, and has stopped when it would store: it raises, and nothing is stored."""
    backend = Backend()
    outboxes.PREPARING.clear()
    outboxes.PREPARED.clear()
    table = table_of(
        tmp_path, backend.handler(takes="bytes"), options={"serializer": "outboxes:slow_serializer"}
    )
    app = Rambla(table).start()
    raised: list[BaseException] = []

    def publish() -> None:
        try:
            app.publish("orders", 1)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    assert outboxes.PREPARING.wait(10)
    app.stop(1)
    outboxes.PREPARED.set()
    thread.join(10)
    assert [type(error) for error in raised] == [NotRunningError]
    assert account(tmp_path).accepted == 0


# -- what the tests share -------------------------------------------------------------------------------


def _raise(error: type[BaseException]) -> None:
    raise error


def _publish_beside(app: Rambla, payload: Any) -> None:
    """Publish on another thread, which must not wait for ever for what this one left behind."""
    thread = threading.Thread(target=app.publish, args=("orders", payload), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the writer's role was not handed over"


def _interrupt_once_it_waits(writer: Any) -> None:
    end, pause = time.monotonic() + 10, threading.Event()
    while not any(waiting.thread == threading.main_thread().ident for waiting in list(writer._queue)):
        if time.monotonic() > end:
            return
        pause.wait(0.001)
    os.kill(os.getpid(), signal.SIGINT)
