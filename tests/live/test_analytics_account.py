"""A tracker in any order of events, flushes, failures of its backend and forks: the account adds up."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rambla_py.analytics import Tracker, TrackerAudit
from rambla_py.delivery import Delivery
from rambla_py.errors import UnavailableError
from rambla_py.handler import Handler, State

TIMEOUT_S = 60
ROOM = 12


def backend() -> type[Handler]:
    """Return a handler that keeps the ids of what it took, and takes nothing while ``is_down``."""

    class Backend(Handler):
        is_down = False
        ids: list[str] = []

        def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
            if Backend.is_down:
                raise UnavailableError("killed")
            Backend.ids.extend(message.id for message in messages)
            return [None] * len(messages)

    return Backend


def added_up(audit: TrackerAudit) -> bool:
    """Return whether every event is in one place."""
    parts = audit.refused + audit.sampled + audit.delivered + audit.lost + audit.pending
    return (
        audit.tracked == parts
        and audit.pending >= 0
        and audit.refused + audit.lost == sum(audit.reasons.values())
    )


class Account(RuleBasedStateMachine):
    """Tracks, and counts what it tracked by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.backend: Any = backend()
        channel = {"max_pending": ROOM, "max_reconnect_s": 0.02, "batch_timeout_s": 0.01}
        table = {"switch": {"handler": self.backend, "channels": {"analytics": channel}}}
        self.tracker = Tracker(table, sample={"sampled": 0.0})
        self.tracked = self.refused = self.sampled = self.errors = 0

    @rule(number=st.integers(1, 5))
    def track(self, number: int) -> None:
        for _ in range(number):
            self.tracker.track("a")
        self.tracked += number

    @rule()
    def track_an_error(self) -> None:
        """It has two deliveries."""
        self.tracker.track_api_error(KeyError("x"))
        self.tracked += 1

    @rule()
    def track_what_is_refused(self) -> None:
        self.tracker.track_payment("charge", 1, "EURO", True)
        self.tracked += 1
        self.refused += 1

    @rule()
    def track_what_the_sample_leaves_out(self) -> None:
        self.tracker.track("a", event_action="sampled")
        self.tracked += 1
        self.sampled += 1

    @rule()
    def kill(self) -> None:
        self.backend.is_down = True

    @rule()
    def restart(self) -> None:
        self.backend.is_down = False

    @rule()
    def flush(self) -> None:
        """Up, it ends everything; down, it returns all the same."""
        if self.backend.is_down:
            self.tracker.flush(0.01)
        else:
            self._check_flushed()

    @rule()
    def fork(self) -> None:
        """The child's account begins at zero, and is exact; it delivers nothing of its parent's."""

        def child() -> None:
            assert self.tracker.audit().tracked == 0
            self.backend.is_down = False
            self.backend.ids.clear()
            self.tracker.track("a")
            self.tracker.track_api_error(KeyError("x"))
            assert self.tracker.flush(TIMEOUT_S)
            audit = self.tracker.audit()
            assert (audit.tracked, audit.delivered, audit.pending) == (2, 2, 0)
            assert len(self.backend.ids) == 3

        assert _in_child(child) == 0

    @invariant()
    def counts_what_was_tracked(self) -> None:
        audit = self.tracker.audit()
        assert (audit.tracked, audit.refused, audit.sampled) == (self.tracked, self.refused, self.sampled)
        assert audit.pending >= 0

    def _check_flushed(self) -> None:
        assert self.tracker.flush(TIMEOUT_S)
        audit = self.tracker.audit()
        assert added_up(audit), audit
        assert audit.pending == 0
        assert set(audit.reasons) <= {"mailbox full", "refused: payment_currency"}

    def teardown(self) -> None:
        self.backend.is_down = False
        self._check_flushed()
        self.tracker.close(TIMEOUT_S)
        assert added_up(self.tracker.audit())
        assert len(set(self.backend.ids)) >= self.tracker.audit().delivered


def _in_child(run: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads is the point
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        run()
        code = 0
    finally:
        os._exit(code)


Account.TestCase.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAccount = Account.TestCase
