"""The outbox beside a dictionary: published, delivered, failed, crashed, adopted, replayed, clocks that jump."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from outboxes import NAME, table_of
from waiting import wait_until

from rambla_py import Handler, Message, OutboxError, PermanentError, Rambla, RejectedError
from rambla_py.outbox.sqlite.journal import SqliteJournal

_STEPS = int(os.environ.get("RAMBLA_STEPS", "1000"))
_DAY_S = 86_400.0
_OPTIONS = {"retries": 1_000, "backoff": {"initial_s": 0.001, "max_s": 0.002}}


class Run:
    """One app, which ends by a stop or as if it had been killed."""

    def __init__(self, model: Outboxes) -> None:
        self.model, self.killed = model, False
        model.started += 1
        self.number = model.started
        self.gate = threading.Event()
        run = self

        class Probe(Handler):
            def handle_publish(self, message: Any, options: Any, state: Any) -> None:
                run.gate.wait(20)
                if run.killed:
                    raise RejectedError("its process is dead")
                model.attempt(message.payload)

        # Small, so that messages spill; two processes look for each other's rows often.
        table = table_of(model.folder, Probe, {"poll_s": 0.02}, max_pending=6, options=_OPTIONS, batch_size=3)
        self.app = Rambla(table)
        self.app.start()
        outbox: Any = self.app._lifecycle.outbox
        self.journal: SqliteJournal = outbox.journal
        self.journal._clock = lambda: model.now
        self.gate.set()  # not before: what is delivered is removed by that clock

    def stop(self) -> None:
        threading.Timer(0.02, self.gate.set).start()
        self.app.stop(0.01)

    def kill(self) -> None:
        """Do what the operating system does for a process that is killed: its locks end, it writes no more."""
        journal: Any = self.journal
        with journal._file._lock:
            self.killed = True
            journal._file.disconnect()
            journal._file._connect = self._refuse
            for number in list(journal._owners.mine):
                journal._owners.unlock(number)
        self.gate.set()
        self.app.stop(0.0)

    def _refuse(self) -> None:
        raise OutboxError("killed", "its process is dead")


class Outboxes(RuleBasedStateMachine):
    """``self.accepted`` has what was promised, ``self.delivered`` how often each was, ``self.dead`` the letters."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.now = time.time()
        self.number = self.started = 0
        self.accepted: dict[int, tuple[int, bool]] = {}
        self.delivered: dict[int, int] = {}
        self.order: dict[str, list[int]] = {}
        self.attempts: dict[int, int] = {}
        self.healed: set[int] = set()
        self.seen: dict[str, float | None] = {}
        self.lock = threading.Lock()
        self.runs = [Run(self)]
        self.reader = SqliteJournal(self.folder / "outbox.db", reserve_bytes=0)
        self.reader.open(delivers=False)

    def teardown(self) -> None:
        for run in self.runs:
            run.stop()
        self.reader.close()
        self._folder.cleanup()

    def attempt(self, payload: list[Any]) -> None:
        """Deliver a message, or fail as its payload says; on a worker."""
        number, fails, fatal, key = payload
        with self.lock:
            self.attempts[number] = self.attempts.get(number, 0) + 1
            if fatal and number not in self.healed:
                raise PermanentError("never")
            if self.attempts[number] <= fails:
                raise RejectedError("not yet")
            self.delivered[number] = self.delivered.get(number, 0) + 1
            if key is not None and self.delivered[number] == 1:
                self.order.setdefault(key, []).append(number)

    # -- what happens ---------------------------------------------------------------------------------

    def _new(self, fails: int, fatal: bool, key: str | None) -> list[Any]:
        self.number += 1
        return [self.number, fails, fatal, key]

    def _run(self, which: int) -> Run:
        return self.runs[which % len(self.runs)]

    def _promised(self, payload: list[Any]) -> None:
        self.accepted[payload[0]] = (payload[1], payload[2])

    @rule(
        which=st.integers(0, 1),
        fails=st.integers(0, 2),
        fatal=st.sampled_from([False, False, False, True]),
        key=st.sampled_from([None, "a", "b"]),
    )
    def publish(self, which: int, fails: int, fatal: bool, key: str | None) -> None:
        run = self._run(which)
        key = key and f"{key} of {run.number}"
        payload = self._new(fails, fatal, key)
        run.app.publish("orders", payload, key=key)
        self._promised(payload)

    @rule(which=st.integers(0, 1), many=st.integers(1, 10), key=st.sampled_from([None, "a"]))
    def publish_many(self, which: int, many: int, key: str | None) -> None:
        run = self._run(which)
        key = key and f"{key} of {run.number}"
        payloads = [self._new(0, False, key) for _ in range(many)]
        run.app.publish_many("orders", [Message(payload, key=key) for payload in payloads])
        for payload in payloads:
            self._promised(payload)

    @rule(which=st.integers(0, 1), name=st.sampled_from(["x", "y"]))
    def publish_with_an_id(self, which: int, name: str) -> None:
        """The same id and payload within the window is one message; after it, a new one."""
        until = self.seen.get(name, 0.0)
        payload = [f"id {name}", 0, False, None]
        before = self.reader.accounts().get(NAME)
        self._run(which).app.publish("orders", payload, id=name)
        after = self.reader.accounts()[NAME]
        new = until is not None and until <= self.now
        assert after.accepted - (before.accepted if before else 0) == int(new)
        assert after.duplicates - (before.duplicates if before else 0) == int(not new)
        if new:
            self.seen[name] = None
            self.accepted[payload[0]] = (0, False)  # type: ignore[index]  # its name is its number

    @rule(which=st.integers(0, 1))
    def pause(self, which: int) -> None:
        self._run(which).gate.clear()

    @rule(which=st.integers(0, 1))
    def resume(self, which: int) -> None:
        self._run(which).gate.set()

    @precondition(lambda self: len(self.runs) < 2)
    @rule()
    def start_another(self) -> None:
        self.runs.append(Run(self))

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        """If another app lives, it adopts; else the next one does, at its start."""
        self.runs.pop(which % len(self.runs)).kill()
        if not self.runs:
            self.runs.append(Run(self))

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.runs.pop(which % len(self.runs)).stop()
        if not self.runs:
            self.runs.append(Run(self))

    @rule()
    def settle(self) -> None:
        """Everything is delivered, or a dead letter."""
        for run in self.runs:
            run.gate.set()
        wait_until(lambda: self._pending() == 0)
        for run in self.runs:
            assert run.app.flush(20)
            assert run.app.audit()[NAME].pending == 0
        dead = {number for number, (_, fatal) in self.accepted.items() if fatal and number not in self.healed}
        assert set(self.accepted) - set(self.delivered) == dead
        assert self.reader.ledger()[0].get(NAME, _Nothing).dead == len(dead)
        for name, until in self.seen.items():
            self.seen[name] = self.now + _DAY_S if until is None else until

    @rule()
    def replay(self) -> None:
        """What was dead is delivered now; nothing else is replayed."""
        self.settle()
        dead = {number for number, (_, fatal) in self.accepted.items() if fatal and number not in self.healed}
        self.healed |= dead
        done = self.runs[0].app.outbox.replay(everything=True)
        assert (done.selected, done.replayed) == (len(dead), len(dead))
        self.settle()

    @rule(by_s=st.sampled_from([-_DAY_S, -60.0, 60.0, 2 * _DAY_S]))
    def jump(self, by_s: float) -> None:
        """The clock that the duplicate window is measured by."""
        self.settle()
        self.now += by_s

    # -- what holds at all times ----------------------------------------------------------------------

    @invariant()
    def the_accounts_add_up(self) -> None:
        accounts, sequence = self.reader.ledger()
        assert all(account.difference == 0 for account in accounts.values())
        replayed = sum(account.replayed for account in accounts.values())
        accepted = sum(account.accepted for account in accounts.values())
        assert accepted == sequence
        assert accepted - replayed >= len(self.accepted)

    @invariant()
    def keys_keep_their_order(self) -> None:
        """Of first deliveries, for those that never fail."""
        with self.lock:
            for numbers in self.order.values():
                plain = [one for one in numbers if self.accepted.get(one) == (0, False)]
                assert plain == sorted(plain)

    def _pending(self) -> int:
        return self.reader.ledger()[0].get(NAME, _Nothing).pending


class _Nothing:
    pending = dead = 0


def test_the_outbox_does_what_a_dictionary_does() -> None:
    """A thousand steps in the tests; RAMBLA_STEPS of them in the soak."""
    steps = min(_STEPS, 50)
    run_state_machine_as_test(
        Outboxes,
        settings=settings(
            max_examples=max(1, _STEPS // steps),
            stateful_step_count=steps,
            deadline=timedelta(seconds=60),
            suppress_health_check=list(HealthCheck),
        ),
    )
