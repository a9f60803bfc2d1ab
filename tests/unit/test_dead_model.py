"""Replays of dead letters beside a model: every message is in one place, and the accounts add up."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dead_files import accept, dead, row
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rambla_py.outbox.dead import Selected, Selection
from rambla_py.outbox.editing import Edit
from rambla_py.outbox.journal import Changes
from rambla_py.outbox.replaying import Replay, drop, replay
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.dead_letters import SqliteDeadLetters
from rambla_py.outbox.sqlite.journal import SqliteJournal

TARGETS = ["amqp.orders", "redis.orders"]
PLACES = st.integers(min_value=0, max_value=30)


class Replays(RuleBasedStateMachine):
    """Messages go from the rows to the letters and back; ``self.place`` has where each of them must be."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "outbox.db"
        self.journal, self.letters = SqliteJournal(path), SqliteDeadLetters(path)
        self.journal.open(delivers=False)
        self.place: dict[str, tuple[str, str]] = {}
        self.replays: dict[str, int] = {}
        self.ended = 0
        self.accepted = 0
        self.selected: Selected | None = None
        self.replayed_since: set[str] = set()
        self.dropped_since: set[str] = set()

    def teardown(self) -> None:
        self.letters.close()
        self.journal.close()
        self.folder.cleanup()

    def rows(self) -> list[Row]:
        return [one for target in TARGETS for one in self.journal.read(0, target, 0, 1_000)]

    @rule(name=st.sampled_from(TARGETS))
    def publish(self, name: str) -> None:
        self.accepted += 1
        id_ = f"m{self.accepted}"
        accept(self.journal, [row(id_, name)])
        self.place[id_] = (name, "rows")
        self.replays[id_] = 0

    @precondition(lambda self: any(place == "rows" for _, place in self.place.values()))
    @rule(at=PLACES, fatal=st.booleans())
    def end(self, at: int, fatal: bool) -> None:
        rows = self.rows()
        one = rows[at % len(rows)]
        if fatal:
            self.journal.write([], Changes(dead=[dead(one)]))
            self.place[one.id] = (one.target, "dead")
        else:
            self.journal.write([], Changes(ended=[(one, "ok")]))
            del self.place[one.id]
        self.ended += 1

    @rule(channel=st.sampled_from([None, "orders", *TARGETS]))
    def select(self, channel: str | None) -> None:
        self.selected = self.letters.select(Selection(channel=channel))
        wanted = {
            id_
            for id_, (target, place) in self.place.items()
            if place == "dead" and channel in (None, "orders", target)
        }
        assert set(self.selected.letters.values()) == wanted
        self.replayed_since, self.dropped_since = set(), set()

    @precondition(lambda self: self.selected is not None)
    @rule(to=st.sampled_from([None, *TARGETS]), steps=st.integers(min_value=0, max_value=4))
    def replay(self, to: str | None, steps: int) -> None:
        assert self.selected is not None
        result = self.run(self.selected, to, steps)
        wanted = dict.fromkeys(self.replayed_since, "already replayed")
        wanted |= dict.fromkeys(self.dropped_since, "gone")
        before = {one.id: one.reason for one in result.refused}
        assert before.items() <= wanted.items()
        if not result.left:
            assert before == wanted
        moved = [one for one in self.selected.letters.values() if one not in wanted][: result.replayed]
        for id_ in moved:
            self.place[id_] = (to or self.place[id_][0], "rows")
            self.replays[id_] += 1
        self.accepted += len(moved)
        self.replayed_since |= set(moved)

    def run(self, selected: Selected, to: str | None, steps: int) -> Replay:
        waits = iter([False] * steps + [True])
        *_, result = replay(
            self.letters, selected, edit=Edit(target=to), rate_per_s=10, wait=lambda seconds: next(waits)
        )
        return result

    @precondition(lambda self: self.selected is not None)
    @rule()
    def drop(self) -> None:
        assert self.selected is not None
        there = set(self.selected.letters.values()) - self.replayed_since - self.dropped_since
        assert drop(self.letters, self.selected) == len(there)
        for id_ in there:
            del self.place[id_]
        self.dropped_since |= there

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        letters = self.letters.read(list(self.letters.select(Selection()).letters))
        found = {one.id: (one.target, "rows") for one in self.rows()}
        assert not found.keys() & {letter.row.id for letter in letters}
        found |= {letter.row.id: (letter.row.target, "dead") for letter in letters}
        assert found == self.place
        assert {letter.row.id: letter.replayed for letter in letters}.items() <= self.replays.items()

    @invariant()
    def the_accounts_add_up(self) -> None:
        accounts = self.journal.accounts().values()
        assert [account.difference for account in accounts] == [0] * len(accounts)
        assert sum(account.accepted for account in accounts) == self.accepted == self.journal.ledger()[1]
        assert sum(account.ok + account.fatal for account in accounts) == self.ended
        assert sum(account.replayed for account in accounts) == sum(self.replays.values())


TestReplays = Replays.TestCase
TestReplays.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
