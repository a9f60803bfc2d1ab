"""Small apps of handlers written in a test, with their accounts checked at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rambla_py import Handler, Outcome, Rambla

TIMEOUT_S = 8.0
"""How long a step may take before it counts as hanging; passing tests never wait that long."""

AT_ONCE = {"initial_s": 0.0, "max_s": 0.0}
"""A back-off without a wait."""


class Seen(list[Any]):
    """What came by, in order; from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = threading.Condition()

    def append(self, item: Any) -> None:
        with self._moved:
            super().append(item)
            self._moved.notify_all()

    def extend(self, items: Iterable[Any]) -> None:
        with self._moved:
            super().extend(items)
            self._moved.notify_all()

    def wait(self, number: int = 1, timeout_s: float = TIMEOUT_S) -> list[Any]:
        """Wait until so many came by; fails when they do not."""
        with self._moved:
            came = self._moved.wait_for(lambda: len(self) >= number, timeout_s)
            assert came, f"{len(self)} of {number} came within {timeout_s:g} s: {list(self)[:10]}"
            return list(self)


def probe(handle: Callable[[Any], Any] | None = None, **members: Any) -> type[Handler]:
    """Return a handler class whose ``handle_publish`` is ``handle(message)``; ``members`` are its own."""
    if handle is not None:
        members["handle_publish"] = lambda self, message, options, state: handle(message)
    return type("Probe", (Handler,), members)


def table(
    handler: type[Handler], options: dict[str, Any] | None = None, **channel: Any
) -> dict[str, dict[str, Any]]:
    """Return a configuration of one target, ``probe.orders``, that retries without a wait."""
    return {"probe": service(handler, orders={"options": options or {}, **channel})}


def service(handler: type[Handler], /, **channels: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a service with one connection."""
    return {
        "handler": handler,
        "options": {"backoff": AT_ONCE},
        "connections": {"here": {}},
        "channels": {name: dict(channel) for name, channel in channels.items()},
    }


@contextmanager
def running(config: dict[str, Any], *gates: threading.Event, stop_s: float = TIMEOUT_S) -> Iterator[Rambla]:
    """Run an app; at the end open the gates, stop it, and check that every target's accounts add up."""
    app = Rambla(config).start()
    try:
        yield app
    finally:
        for gate in gates:
            gate.set()
        app.stop(timeout_s=stop_s)
    for name, audit in app.audit().items():
        assert audit.balanced, f"{name}: accepted is not the sum of the rest: {audit}"
        assert audit.pending == 0, f"{name}: without an outcome after stop: {audit}"


def one(app: Rambla, payload: Any = "x", /, channel: str = "orders", **options: Any) -> Outcome:
    """Publish one message and return its outcome."""
    return app.publish(channel, payload, **options).outcomes(timeout_s=TIMEOUT_S)[0]


def until(true: Callable[[], Any], timeout_s: float = TIMEOUT_S, poll_s: float = 0.005) -> bool:
    """Ask again and again until the answer is yes; return whether it came in time."""
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while not true():
        if time.monotonic() >= deadline:
            return False
        pause.wait(poll_s)
    return True


def flaky(times: int, error: BaseException | None = None, result: Any = "done") -> Callable[[Any], Any]:
    """Return a ``handle`` that raises the first ``times`` attempts of each message."""

    def handle(message: Any) -> Any:
        if message.attempts <= times:
            raise error if error is not None else ValueError("not yet")
        return result

    return handle
