"""Workers with nothing to do end, and the next message starts them again."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from small_apps import TIMEOUT_S, until

from rambla_py import ConnectionLostError, Handler, Rambla

IDLE = {"idle_timeout_s": 0.05}


class Kept(Handler):
    """Keeps what it is given, and counts its connections."""

    payloads: list[Any] = []
    opened: list[int] = []
    closed: list[int] = []

    def connect(self) -> object:
        self.opened.append(1)
        return object()

    def close(self, connection: object) -> None:
        self.closed.append(1)

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        self.payloads.append(message.payload)


class Away(Handler):
    """Its server is never there."""

    def connect(self) -> None:
        raise ConnectionLostError("away")

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        raise AssertionError("there is no connection")


@pytest.fixture(autouse=True)
def _none_kept() -> None:
    for found in (Kept.payloads, Kept.opened, Kept.closed):
        found.clear()


def app_of(**channels: dict[str, Any]) -> Rambla:
    handler = {"handler": Kept, "connections": {"here": {}}}
    return Rambla(
        {
            "kept": {
                **handler,
                "channels": {name: {"connection": "here", **table} for name, table in channels.items()},
            }
        }
    )


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if " worker " in thread.name]


def test_idle_workers_disconnect_and_end_until_the_next_message() -> None:
    """Twice: the channel is idle, has no thread and no connection, and delivers what comes then."""
    with app_of(c={**IDLE, "count": 3}) as app:
        for turn in range(1, 3):
            assert app.publish("c", turn).outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
            assert until(lambda: not workers())
            assert app.status()["kept.c"].state == "idle"
            assert app.status()["kept.c"].restarts == 0
            assert until(lambda: len(Kept.opened) == len(Kept.closed))
        assert Kept.payloads == [1, 2]
        assert 2 <= len(Kept.opened) <= 6


def test_workers_of_a_fallback_stay_while_its_channels_are_used() -> None:
    """When it is needed, perhaps at the end of the interpreter, no thread might start any more."""
    with app_of(c={"fallback": "d", "idle_timeout_s": 600.0}, d=IDLE, e=IDLE) as app:
        assert app.publish("c", 1).outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert app.publish("e", 1).outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert until(lambda: workers() == ["rambla kept.c worker 0", "rambla kept.d worker 0"])
        assert app.status()["kept.d"].state == "up"


def test_workers_that_are_not_lazy_stay() -> None:
    """They were asked to be there before the first message."""
    with app_of(c={**IDLE, "lazy": False}, d=IDLE) as app:
        app.publish(["c", "d"], 1).outcomes(timeout_s=TIMEOUT_S)
        assert until(lambda: workers() == ["rambla kept.c worker 0"])


def test_workers_whose_server_is_away_stay() -> None:
    """The state says so for as long as it lasts."""
    away = {"handler": Away, "connections": {"here": {}}}
    channel = {"connection": "here", **IDLE, "options": {"expires_s": 0.01}}
    with Rambla({"away": {**away, "channels": {"c": channel}}}) as app, app_of(d=IDLE) as other:
        assert app.publish("c", 1).outcomes(timeout_s=TIMEOUT_S)[0].status == "expired"
        other.publish("d", 1).outcomes(timeout_s=TIMEOUT_S)
        assert until(lambda: workers() == ["rambla away.c worker 0"])
        assert app.status()["away.c"].state == "connecting"


def test_messages_that_come_while_workers_end_are_delivered_once() -> None:
    """Four threads publish at the very moments when the workers of the channel are about to end."""
    ended = threading.Event()

    def publish(name: int) -> None:
        for number in range(60):
            app.publish("c", (name, number), key=f"{number % 3}").outcomes(timeout_s=TIMEOUT_S)
            ended.wait(0.0125 * (number % 6))

    with app_of(c={"idle_timeout_s": 0.02, "count": 2}) as app:
        threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        audit = app.audit()["kept.c"]
    assert (audit.ok, audit.pending) == (240, 0)
    assert set(Counter(Kept.payloads).values()) == {1}
    assert len(Kept.opened) == len(Kept.closed)


def test_a_stop_while_workers_end_waits_for_their_connections() -> None:
    """Each connection is closed when ``stop`` returns."""
    for _ in range(20):
        with app_of(c={"idle_timeout_s": 0.001}) as app:
            app.publish("c", 1).outcomes(timeout_s=TIMEOUT_S)
        assert len(Kept.opened) == len(Kept.closed)
