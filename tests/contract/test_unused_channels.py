"""Channels that nothing is published to cost next to nothing, and are shown all the same."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from counted_costs import CountedCalls
from small_apps import TIMEOUT_S

from rambla_py import NotRunningError, Rambla

MANY = 200


def _app(channels: int = MANY) -> Rambla:
    return Rambla({"null": {"channels": {f"c{at}": {} for at in range(channels)}}})


def _made(app: Rambla) -> int:
    return sum(target is not None for _, target in app._lifecycle.known_targets())


def _publish_at_once(app: Rambla, threads: int) -> list[str]:
    ready = threading.Barrier(threads)

    def publish(_: int) -> str:
        ready.wait(TIMEOUT_S)
        return str(app.publish("c0", "hello").outcomes(timeout_s=TIMEOUT_S)[0].status)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(publish, range(threads)))


def test_only_what_is_used_is_made() -> None:
    """A start makes no target, a message makes its own, accounts make none, a status all."""
    with _app() as app:
        assert _made(app) == 0
        app.publish("c7", "hello").result(timeout_s=TIMEOUT_S)
        assert _made(app) == 1
        assert len(app.audit()) == MANY
        assert app.failures() == []
        assert app.health().ready
        assert app.flush(TIMEOUT_S)
        assert _made(app) == 1
        assert [one.state for one in app.status().values()].count("idle") == MANY - 1
    assert _made(app) == MANY


def test_a_start_makes_few_calls_a_channel() -> None:
    """With its plan and its names; a target that was made at the start took 137."""
    app, calls = _app(), CountedCalls()
    with calls.counting():
        app.start()
    app.stop()
    assert sum(calls.calls.values()) / MANY < 12, calls.calls.most_common(9)


def test_accounts_of_unused_channels_are_empty() -> None:
    """While it runs and after the stop, when the status says that they are stopped, as it does of others."""
    with _app(2) as app:
        app.publish("c0", "hello").result(timeout_s=TIMEOUT_S)
        running = app.audit()
    assert app.audit() == running
    assert {name: (one.accepted, one.balanced) for name, one in running.items()} == {
        "null.c0": (1, True),
        "null.c1": (0, True),
    }
    states = {one.state for one in app.status().values()}
    assert len(states) == 1


def test_a_first_message_from_many_threads() -> None:
    """Threads that publish first at the same moment share one target: nothing is counted twice or lost."""
    threads = 16
    for _ in range(20):
        with _app(1) as app:
            statuses = _publish_at_once(app, threads)
            assert statuses == ["ok"] * threads
            assert app.audit()["null.c0"].ok == threads


def test_many_first_messages_take_the_fast_path() -> None:
    """Also the first call: a plan for each of its messages would cost eight times as much."""
    with _app(1) as app:
        app.publish_many("c0", ["hello"] * 3).result(timeout_s=TIMEOUT_S)
        assert "c0" in app._lifecycle.fast_paths


def test_a_listener_hears_what_was_published_before_and_after() -> None:
    """It empties the fast paths; once it has gone, the next message finds its own again."""
    heard: list[str] = []
    with _app(1) as app:
        app.publish("c0", "hello")
        end = app.listen(lambda event: heard.append(event.kind))
        app.publish("c0", "hello").result(timeout_s=TIMEOUT_S)
        assert "published" in heard
        assert not app._lifecycle.fast_paths
        end()
        app.publish("c0", "hello").result(timeout_s=TIMEOUT_S)
        assert "c0" in app._lifecycle.fast_paths
        assert heard.count("published") == 1


def test_a_channel_first_used_during_the_stop_refuses() -> None:
    """A publisher that found the app running, and its target not made yet, gets an error that says so."""
    app = _app(2).start()
    system = app._lifecycle.running()
    app.stop()
    with pytest.raises(NotRunningError):
        system.routes["c1"]
    assert app.audit()["null.c1"].accepted == 0
