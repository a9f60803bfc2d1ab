"""This module runs a real app for one test of the contract suite, and hears all that it says."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from rambla_py.app import Rambla
from rambla_py.message import Message
from rambla_py.outcome import Outcome
from rambla_py.report import Audit, Ping, TargetStatus
from rambla_py.telemetry.events import Event
from rambla_py.testing.processes import deadline

__all__ = ["CHANNEL", "SERVICE", "STOP_S", "TIMEOUT_S", "Trial", "numbered", "until"]

SERVICE = "contract"
CHANNEL = "orders"
TIMEOUT_S = 20.0
"""How long one step of a test may take before it counts as hanging; passing tests never wait that long."""

STOP_S = 5.0


def until(true: Any, timeout_s: float = TIMEOUT_S) -> bool:
    """Ask ``true()`` again and again until it says yes; say whether it did in time."""
    return any(true() for _ in deadline(timeout_s, poll_s=0.01))


class _Ear(logging.Handler):
    """Keeps what is logged, by whomever."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Trial:
    """An app with one target, ``contract.orders``, in a ``with`` block that ends with a look at the accounts.

    ``exit_s`` bounds the stop at the end of the block, ``patience_s`` the wait for outcomes.
    """

    def __init__(self, table: Mapping[str, Any], *, exit_s: float = STOP_S) -> None:
        self.app = Rambla(table)
        self.outcomes: list[Outcome] = []
        self.patience_s = TIMEOUT_S
        self._exit_s = exit_s
        self._ear = _Ear()
        self._pings: list[Ping] = []

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._ear)
        logging.getLogger("rambla_py").setLevel(logging.DEBUG)
        self.app.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.app.stop(timeout_s=self._exit_s)
        finally:
            logging.getLogger("rambla_py").setLevel(logging.NOTSET)
            logging.getLogger().removeHandler(self._ear)
        if error is None:
            self._check_accounts()

    def publish(self, message: Any, /, **options: Any) -> Outcome:
        """Publish one message, wait for it, and return its outcome."""
        outcomes = self.app.publish(CHANNEL, message, **options).outcomes(timeout_s=self.patience_s)
        self.outcomes += outcomes
        return outcomes[0]

    def publish_many(self, messages: Iterable[Any], /, **options: Any) -> list[Outcome]:
        """Publish many messages at once, wait for all, and return their outcomes."""
        outcomes = self.app.publish_many(CHANNEL, messages, **options).outcomes(timeout_s=self.patience_s)
        self.outcomes += outcomes
        return outcomes

    def ping(self, timeout_s: float = TIMEOUT_S) -> Ping:
        """Return the answer of a ping."""
        pings = self.app.ping(CHANNEL, timeout_s=timeout_s)
        self._pings += pings
        return pings[0]

    def status(self) -> TargetStatus:
        """Return the target as it is now."""
        return self.app.status()[f"{SERVICE}.{CHANNEL}"]

    def audit(self) -> Audit:
        """Return the target's accounts."""
        return self.app.audit()[f"{SERVICE}.{CHANNEL}"]

    def reconnects(self) -> int:
        """Return how many times it could not connect."""
        return sum(
            number for reason, number in self.status().reasons.items() if reason.startswith("connect:")
        )

    def logged(self, level: int) -> list[str]:
        """Return our own lines of one level."""
        return [
            record.getMessage()
            for record in self._ear.records
            if record.name.startswith("rambla_py") and record.levelno == level
        ]

    def count_ends(self) -> Counter[str]:
        """Return a counter, of message ids, that grows with every outcome from now on."""
        ends: Counter[str] = Counter()
        lock = threading.Lock()

        def hear(event: Event) -> None:
            if event.kind == "outcome":
                with lock:
                    ends[event.data["outcome"].message_id] += 1

        self.app.listen(hear)
        return ends

    def stop(self, timeout_s: float) -> float:
        """Stop the app and return how long that took, in seconds."""
        began = time.monotonic()
        self.app.stop(timeout_s=timeout_s)
        return time.monotonic() - began

    def everything_said(self) -> Iterator[str]:
        """Yield each text that this app has let out: logs with their fields, errors with causes, reports."""
        form = logging.Formatter()
        for record in self._ear.records:
            yield form.format(record)
            yield repr(vars(record))
        for outcome in self.outcomes:
            yield repr(outcome)
            if outcome.error is not None:
                yield "".join(traceback.format_exception(outcome.error))
        for ping in self._pings:
            yield f"{ping!r} {ping.error}"
        app = self.app
        yield from map(repr, (app, app.config, app.status(), app.audit(), app.plan.as_data()))
        yield str(app.plan)

    def _check_accounts(self) -> None:
        audit = self.audit()
        assert audit.balanced, f"accepted is not the sum of the outcomes and pending: {audit}"
        assert audit.pending == 0, f"deliveries without an outcome after stop: {audit}"


def numbered(payloads: Iterable[Any], prefix: str) -> list[Message]:
    """Return messages with ids that tell their place."""
    return [Message(payload, id=f"{prefix}-{at}") for at, payload in enumerate(payloads)]
