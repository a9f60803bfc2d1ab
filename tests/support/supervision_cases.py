"""What the tests split from test_supervision share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from small_apps import Seen, probe, until

from rambla_py import (
    ChildSpec,
    Handler,
    Rambla,
)


def target_of(app: Rambla, name: str = "probe.orders") -> Any:
    """Return the inner side of a target."""
    return next(target for target in app._targets() if target.config.name == name)


def status_of(app: Rambla, name: str = "probe.orders") -> Any:
    """Return what status says of a target."""
    return app.status()[name]


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return our own lines of level ERROR."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.name.startswith("rambla_py")
    ]


def connecting(seen: Seen) -> Callable[[Handler], int]:
    """Return a ``connect`` that gives each connection a number, and remembers it."""

    def connect(self: Handler) -> int:
        seen.append(len(seen))
        return len(seen)

    return connect


def kill_worker(app: Rambla, name: str = "probe.orders", index: int = 0) -> None:
    """Make a worker's own code raise at its next turn."""
    sabotage(target_of(app, name).wakeup.workers._workers[index], abandoned=Tripwire())


def kill_workers(app: Rambla, number: int) -> None:
    """Kill the only worker and those that replace it, one after the other."""
    killed: list[Any] = []
    for _ in range(number):
        # The next one, and not the last while it is still dying.
        assert until(
            lambda: (
                status_of(app).workers == ["up"] and target_of(app).wakeup.workers._workers[0] not in killed
            )
        )
        killed.append(target_of(app).wakeup.workers._workers[0])
        kill_worker(app)


class Tripwire:
    """Raises while a condition is true."""

    def __bool__(self) -> bool:
        raise RuntimeError("tripped")


def sabotage(actor: Any, **fields: Any) -> None:
    """Spoil an actor's state until it trips over it; again and again, for it may just be writing there itself."""

    def dead() -> bool:
        for name, value in fields.items():
            setattr(actor, name, value)
        actor.wake()
        return not actor.is_alive()

    assert until(dead)


def tree_of(app: Rambla) -> Any:
    """Return the live tree of an app."""
    return app._lifecycle.system._tree  # type: ignore[union-attr]


class Server:
    """An external server of the simplest kind: it records its starts and stops, and dies on command."""

    def __init__(self, name: str, log: Seen, *, stop_error: BaseException | None = None) -> None:
        self.name, self.log, self.living, self.stop_error = name, log, False, stop_error

    def start(self) -> Server:
        self.living = True
        self.log.append(f"start {self.name}")
        return self

    def stop(self) -> None:
        self.living = False
        self.log.append(f"stop {self.name}")
        if self.stop_error is not None:
            raise self.stop_error

    def spec(self) -> ChildSpec:
        return ChildSpec(
            self.name, self.start, stop=lambda handle: handle.stop(), alive=lambda handle: handle.living
        )


def with_servers(servers: Any, log: Seen, handle: Any = None, **members: Any) -> type[Handler]:
    """Return a handler with external servers; it notes its connects and closes in the same log."""
    return probe(
        handle or (lambda message: None),
        external_servers=lambda self, channel: servers,
        connect=lambda self: log.append("connect"),
        close=lambda self, connection: log.append("close"),
        **members,
    )
