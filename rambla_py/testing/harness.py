"""A real app for one test of the contract suite, with everything that it logs."""

from __future__ import annotations

import logging
import pickle
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from rambla_py.app import Rambla
from rambla_py.errors import RamblaError, ReceiptTimeoutError
from rambla_py.message import Message
from rambla_py.outcome import Outcome
from rambla_py.receipt import Receipt
from rambla_py.status import Audit, Ping, TargetStatus
from rambla_py.telemetry.events import Event
from rambla_py.testing.processes import deadline

__all__ = ["CHANNEL", "SERVICE", "STOP_S", "TIMEOUT_S", "Harness", "numbered", "until"]

SERVICE = "contract"
CHANNEL = "orders"
TIMEOUT_S = 20.0
"""How long one step of a test may take before it counts as hanging; passing tests never wait that long."""

STOP_S = 5.0


def until(true: Any, timeout_s: float = TIMEOUT_S) -> bool:
    """Call ``true()`` repeatedly until it returns true; return whether it did in time."""
    return any(true() for _ in deadline(timeout_s, poll_s=0.01))


class _LogCapture(logging.Handler):
    """Keeps all log records of the process."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Harness:
    """An app with one target, ``contract.orders``, in a ``with`` block that checks the accounts at its end.

    ``exit_s`` bounds the stop at the end of the block, ``patience_s`` the wait for outcomes.
    """

    def __init__(self, table: Mapping[str, Any], *, exit_s: float = STOP_S) -> None:
        self.app = Rambla(table)
        self.outcomes: list[Outcome] = []
        self.patience_s = TIMEOUT_S
        self._exit_s = exit_s
        self._ear = _LogCapture()
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
        outcomes = self._ended(self.app.publish_many(CHANNEL, messages, **options))
        self.outcomes += outcomes
        return outcomes

    def _ended(self, receipt: Receipt) -> list[Outcome]:
        """Wait as long as some end within ``patience_s``, so that a slow machine fails no test."""
        before = 0
        while True:
            try:
                return receipt.outcomes(timeout_s=self.patience_s)
            except ReceiptTimeoutError as error:
                if error.done <= before:
                    raise
                before = error.done

    def ping(self, timeout_s: float = TIMEOUT_S) -> Ping:
        """Return the answer of a ping."""
        pings = self.app.ping(CHANNEL, timeout_s=timeout_s)
        self._pings += pings
        return pings[0]

    def status(self) -> TargetStatus:
        """Return the target's status."""
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
                    ends[event.data["message_id"]] += 1

        self.app.listen(hear)
        return ends

    def stop(self, timeout_s: float) -> float:
        """Stop the app and return how long that took, in seconds."""
        began = time.monotonic()
        self.app.stop(timeout_s=timeout_s)
        return time.monotonic() - began

    def everything_said(self, *, causes: bool = True) -> Iterator[str]:
        """Yield each string that this app has shown: logs with their fields, errors, reports.

        With ``causes`` (the driver's errors, which may quote payloads) also what an error holds, and pickles.
        """
        form = logging.Formatter()
        for record in self._ear.records:
            yield form.format(record)
            yield repr(vars(record))
        for outcome in self.outcomes:
            yield repr(outcome)
            if outcome.error is not None:
                yield f"{outcome.error} {outcome.error!r}"
            if outcome.error is not None and causes:
                yield from _all_of(outcome.error)
        for ping in self._pings:
            yield f"{ping!r} {ping.error}"
            if ping.exception is not None and causes:
                yield from _all_of(ping.exception)
        app = self.app
        yield from map(repr, (app, app.config, app.status(), app.audit(), app.plan.as_data()))
        yield str(app.plan)

    def _check_accounts(self) -> None:
        audit = self.audit()
        assert audit.balanced, f"accepted is not the sum of the outcomes and pending: {audit}"
        assert audit.pending == 0, f"deliveries without an outcome after stop: {audit}"


def _all_of(error: BaseException) -> Iterator[str]:
    """Yield an error with its causes, what each of them holds, and its pickle if it is one of ours."""
    yield "".join(traceback.format_exception(error))
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None:
        assert id(one) not in seen, f"an error is its own cause: {one!r}"
        seen.add(id(one))
        yield repr(vars(one))
        if isinstance(one, RamblaError):
            yield pickle.dumps(one).decode("latin-1")
        one = one.__cause__ or one.__context__


def numbered(payloads: Iterable[Any], prefix: str) -> list[Message]:
    """Return messages whose ids are their positions."""
    return [Message(payload, id=f"{prefix}-{at}") for at, payload in enumerate(payloads)]
