"""Dead letters of every journal: selections, groups, replay and removal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from dead_files import accept, dead, kill_in, row
from waiting import in_background

from rambla_py.outbox.codec import dump_value, load_value
from rambla_py.outbox.dead import DeadLetters, Selection, resolved
from rambla_py.outbox.editing import Edit
from rambla_py.outbox.errors import DuplicateIdError, OutboxError
from rambla_py.outbox.journal import Acceptance, Changes, Journal
from rambla_py.outbox.memory import MemoryJournal, MemoryTables
from rambla_py.outbox.memory_letters import MemoryDeadLetters
from rambla_py.outbox.postgres.dead_letters import PostgresDeadLetters
from rambla_py.outbox.postgres.journal import PostgresJournal
from rambla_py.outbox.replaying import Move, Refused, Replay, drop, in_steps, replay
from rambla_py.outbox.rows import Progress, Row
from rambla_py.outbox.sqlite.dead_letters import SqliteDeadLetters
from rambla_py.outbox.sqlite.journal import SqliteJournal

NOW = 9_000.0


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def opened(kind: str, request: pytest.FixtureRequest) -> Iterator[tuple[Journal, Callable[[], DeadLetters]]]:
    """Return a journal that delivers, and a function that opens its dead letters once more."""
    options: dict[str, Any] = {"dedup_window_s": 100.0, "clock": lambda: NOW}
    made: list[DeadLetters] = []
    journal: Journal
    letters: Callable[[], DeadLetters]
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / "outbox.db"
        journal, letters = SqliteJournal(path, **options), partial(SqliteDeadLetters, path, **options)
    elif kind == "memory":
        tables = MemoryTables()
        journal, letters = MemoryJournal(tables, **options), partial(MemoryDeadLetters, tables, **options)
    else:
        url = request.getfixturevalue("empty_postgres").url
        journal = PostgresJournal(url, poll_s=0, room_check_s=0, **options)
        letters = partial(PostgresDeadLetters, url, **options)
    journal.open(delivers=True)
    journal.claim()

    def open_letters() -> DeadLetters:
        made.append(letters())
        return made[-1]

    yield journal, open_letters
    for one in made:
        one.close()
    journal.close()


@pytest.fixture
def journal(opened: tuple[Journal, Callable[[], DeadLetters]]) -> Journal:
    return opened[0]


@pytest.fixture
def open_letters(opened: tuple[Journal, Callable[[], DeadLetters]]) -> Callable[[], DeadLetters]:
    return opened[1]


@pytest.fixture
def letters(open_letters: Callable[[], DeadLetters]) -> DeadLetters:
    return open_letters()


def run(letters: DeadLetters, selection: Selection = Selection(), **options: Any) -> Replay:  # noqa: B008
    *_, last = replay(letters, letters.select(selection), clock=lambda: NOW, **options)
    return last


def waiting(journal: Journal, target: str = "amqp.orders", share: int = 0) -> list[Row]:
    return journal.read(share, target, 0, 1_000)


def test_each_part_of_a_selection(journal: Journal, letters: DeadLetters) -> None:
    """Ids, group, channel, times and text narrow it; all that are given must match."""
    first = kill_in(journal, [row("1"), row("2", "redis.orders")], died=100.0)
    kill_in(journal, [row("3", "redis.logs")], died=200.0, text="RejectedError: 100% full_up")
    assert [*letters.select(Selection()).letters.values()] == ["1", "2", "3"]
    for selection, ids in [
        (Selection(ids=("1", "3")), ["1", "3"]),
        (Selection(channel="orders"), ["1", "2"]),
        (Selection(channel="redis.orders"), ["2"]),
        (Selection(channel="redis"), []),
        (Selection(since=200.0), ["3"]),
        (Selection(until=200.0), ["1", "2"]),
        (Selection(error="FULL_UP"), ["3"]),
        (Selection(error="100% full"), ["3"]),
        (Selection(error="fullXup"), []),
        (Selection(group=first[0].fingerprint), ["1", "2"]),
        (Selection(group=first[0].fingerprint[:4], channel="redis.orders"), ["2"]),
    ]:
        assert [*letters.select(selection).letters.values()] == ids, selection
    assert not Selection()
    assert Selection(since=0.0)


def test_a_letter_is_read_as_it_was_written(journal: Journal, letters: DeadLetters) -> None:
    """Payload, options, key, attempts and errors come back, in the order of the rows."""
    written = kill_in(journal, [row("1", key="k", options=dump_value({"a": 1}), given_id=True), row("2")])
    read = letters.read([letter.row.seq for letter in reversed(written)])
    for one, other in zip(read, written, strict=True):
        mine, theirs = other.row, one.row
        assert {**as_dict(other), "row": None} == {**as_dict(one), "row": None}
        assert {**as_dict(mine), "share": 0} == {**as_dict(theirs), "share": 0}
        assert theirs.sound


def as_dict(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def test_groups(journal: Journal, letters: DeadLetters) -> None:
    """Letters of one channel and kind of error are one group; the largest is first, with its last error."""
    kill_in(journal, [row("1"), row("2", "redis.orders")], died=100.0, text="RejectedError: row 1")
    kill_in(journal, [row("3")], died=300.0, text="RejectedError: row 2")
    kill_in(journal, [row("4")], died=200.0, text="RejectedError: full")
    found = letters.groups(Selection())
    assert [(one.channel, one.count, one.error, one.first_at, one.last_at) for one in found] == [
        ("amqp.orders", 2, "RejectedError: row 2", 100.0, 300.0),
        ("amqp.orders", 1, "RejectedError: full", 200.0, 200.0),
        ("redis.orders", 1, "RejectedError: row 1", 100.0, 100.0),
    ]
    assert found[0].fingerprint == found[2].fingerprint
    assert [one.count for one in letters.groups(Selection(channel="redis.orders"))] == [1]


def test_a_group_by_its_beginning(journal: Journal, letters: DeadLetters) -> None:
    """The beginning of a fingerprint is enough where only one group has it; a group that is gone is named."""
    with pytest.raises(OutboxError, match="no group 'beef' of dead letters; it was replayed or dropped"):
        resolved(letters, Selection(group="beef"))
    (letter,) = kill_in(journal, [row("1")])
    whole = resolved(letters, Selection(group=letter.fingerprint[:5], channel="orders"))
    assert whole == Selection(group=letter.fingerprint, channel="orders")
    kill_in(journal, [row(str(at)) for at in range(17)], text="x")
    for at in range(17):
        kill_in(journal, [row("2")], text="x" * (at + 2))
    with pytest.raises(OutboxError, match="several groups begin with ''"):
        resolved(letters, Selection(group=""))


def test_a_replay_moves_each_letter_back(letters: DeadLetters, journal: Journal) -> None:
    """It is a new row with the id and the history of the old one; nothing is left of the letter."""
    (letter,) = kill_in(journal, [row("1", key="k")])
    result = run(letters)
    assert (result.selected, result.replayed, result.refused, result.left) == (1, 1, (), 0)
    (back,) = waiting(journal)
    assert (back.id, back.key, back.accepted, back.payload) == ("1", "k", NOW, letter.row.payload)
    assert back.seq > letter.row.seq
    assert Progress.load(back.progress).replayed == 1
    assert letters.select(Selection()).letters == {}
    account = journal.accounts()["amqp.orders"]
    assert (account.accepted, account.fatal, account.pending, account.dead, account.replayed) == (
        2,
        1,
        1,
        0,
        1,
    )
    assert account.difference == 0
    assert journal.ledger()[1] in (None, 2)


def test_a_share_and_a_call_for_the_rows(letters: DeadLetters, journal: Journal) -> None:
    """Rows belong to the process that is named, which gets them once they are committed."""
    kill_in(journal, [row("1"), row("2")])
    got: list[Row] = []
    run(letters, deliver=lambda move: got.extend(move(journal.own)))
    share = 0 if journal.polls else journal.own
    assert [one.seq for one in got] == [one.seq for one in waiting(journal, share=share)]
    assert [one.id for one in got] == ["1", "2"]


def test_what_dies_meanwhile_is_not_selected(letters: DeadLetters, journal: Journal) -> None:
    """A message that fails again during the replay is a new letter, which this replay leaves alone."""
    kill_in(journal, [row("1")])

    def kill_again(move: Move) -> None:
        rows = move(0)
        waiting(journal)  # PostgreSQL: only what was handed out can end
        journal.write([], Changes(dead=[dead(one) for one in rows]))

    selected = letters.select(Selection())
    *_, last = replay(letters, selected, deliver=kill_again)
    assert (last.selected, last.replayed) == (1, 1)
    (left,) = in_steps(letters, letters.select(Selection()))
    assert (left.row.id, left.replayed, left.attempts) == ("1", 1, 2)
    assert letters.groups(Selection())[0].replayed == 1
    *_, again = replay(letters, selected)
    assert again.refused == (Refused("1", "already replayed"),)
    assert len(letters.select(Selection()).letters) == 1


def test_gone_and_already_replayed(journal: Journal, letters: DeadLetters) -> None:
    """Both are refused with their reason, also by id, and also when another replay was faster."""
    kill_in(journal, [row("1"), row("2"), row("3")])
    before = letters.select(Selection())
    assert drop(letters, letters.select(Selection(ids=("2",)))) == 1
    run(letters, Selection(ids=("3",)))
    *_, last = replay(letters, before)
    assert last.refused == (Refused("2", "gone"), Refused("3", "already replayed"))
    assert (last.selected, last.replayed, last.left) == (3, 1, 0)
    by_id = run(letters, Selection(ids=("2", "3", "4")))
    assert by_id.refused == (Refused("2", "gone"), Refused("3", "already replayed"), Refused("4", "gone"))
    assert (by_id.selected, by_id.replayed) == (3, 0)


def test_two_replays_at_the_same_time(
    letters: DeadLetters, open_letters: Callable[[], DeadLetters], journal: Journal
) -> None:
    """Each letter is moved by one of them, and refused by the other."""
    kill_in(journal, [row(f"m{at}") for at in range(200)])
    selected = letters.select(Selection())
    others = [letters, open_letters()]
    threads = [
        in_background(lambda one=one: list(replay(one, selected, rate_per_s=1_000))[-1:])  # type: ignore[misc]
        for one in others
    ]
    for thread, _ in threads:
        thread.join(30)
    first, second = (result[0] for _, result in threads)
    assert first.replayed + second.replayed == 200
    assert {one.reason for one in (*first.refused, *second.refused)} == {"already replayed"}
    assert (first.left, second.left) == (0, 0)
    assert sorted(one.id for one in waiting(journal)) == sorted(selected.letters.values())
    account = journal.accounts()["amqp.orders"]
    assert (account.accepted, account.replayed, account.difference) == (400, 200, 0)


def test_the_rate_and_an_interruption(journal: Journal, letters: DeadLetters) -> None:
    """A step moves a tenth of a second's letters; an interrupted replay leaves the rest, for the next one."""
    kill_in(journal, [row(str(at)) for at in range(25)])
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    steps = list(
        replay(letters, letters.select(Selection()), rate_per_s=100, wait=wait, monotonic=lambda: 50.0)
    )
    assert [step.replayed for step in steps] == [0, 10, 20]
    assert steps[-1].left == 5
    assert waits == pytest.approx([0.0, 0.1, 0.2])
    assert run(letters, rate_per_s=1e6).replayed == 5


def test_an_edit_that_fails_refuses_its_letter(letters: DeadLetters, journal: Journal) -> None:
    """The others are replayed; what was refused is a dead letter still."""
    kill_in(journal, [row("1", payload={"n": {"a": 1}}), row("2", payload={"n": 1})])
    result = run(letters, edit=Edit(values=(("n.a", 2),)))
    assert result.refused == (Refused("2", "its payload has no 'a' to set"),)
    assert [load_value(one.payload) for one in waiting(journal)] == [{"n": {"a": 2}}]
    assert [*letters.select(Selection()).letters.values()] == ["2"]


def test_to_another_channel(letters: DeadLetters, journal: Journal) -> None:
    """The other target accepts it, and knows its id from now on; for the first one the window runs out."""
    kill_in(journal, [row("1", given_id=True)])
    run(letters, edit=Edit(target="redis.orders"))
    assert [one.id for one in waiting(journal, "redis.orders")] == ["1"]
    accounts = journal.accounts()
    assert (accounts["amqp.orders"].replayed, accounts["redis.orders"].accepted) == (1, 1)
    assert {one.difference for one in accounts.values()} == {0}
    assert publish_again(journal, row("1", "redis.orders", given_id=True)) == [None]
    assert publish_again(journal, row("1", given_id=True)) == ["fatal"]


def publish_again(journal: Journal, one: Row) -> list[str | None]:
    acceptance = Acceptance([one])
    journal.write([acceptance], Changes())
    assert acceptance.error is None
    return [status for _, status in acceptance.duplicates]


def test_the_duplicate_window(letters: DeadLetters, journal: Journal) -> None:
    """A replay passes it; a given id is known while its message is dead, and after a drop for the window."""
    kill_in(journal, [row("1", given_id=True)])
    assert publish_again(journal, row("1", given_id=True)) == [None]
    run(letters)
    (back,) = waiting(journal)
    assert publish_again(journal, row("1", given_id=True)) == [None]
    acceptance = Acceptance([row("1", payload="other", given_id=True)])
    journal.write([acceptance], Changes())
    assert isinstance(acceptance.error, DuplicateIdError)
    journal.write([], Changes(dead=[dead(back)]))
    drop(letters, letters.select(Selection()))
    assert publish_again(journal, row("1", given_id=True)) == ["fatal"]


def test_removal(letters: DeadLetters, journal: Journal) -> None:
    """Dropped letters are gone, and still counted as fatal; dropping again removes nothing."""
    kill_in(journal, [row(str(at)) for at in range(600)])
    selected = letters.select(Selection())
    assert drop(letters, selected) == 600
    assert drop(letters, selected) == 0
    account = journal.accounts()["amqp.orders"]
    assert (account.accepted, account.fatal, account.dead, account.difference) == (600, 600, 0, 0)


def test_removal_of_what_was_published_again(letters: DeadLetters, journal: Journal) -> None:
    """It counts as replayed, and is known as such."""
    kill_in(journal, [row("1"), row("2", given_id=True), row("3")])
    first, second, third = letters.select(Selection()).letters
    assert letters.drop([first, second], replayed=True) == []
    assert letters.absent([first, second, third]) == dict.fromkeys((first, second), "already replayed")
    assert letters.drop([first], replayed=True) == [first]
    account = journal.accounts()["amqp.orders"]
    assert (account.replayed, account.dead, account.difference) == (2, 1, 0)


def test_letters_of_messages_that_were_not_in_the_journal(letters: DeadLetters, journal: Journal) -> None:
    """They count as accepted and fatal, have numbers of their own, and can be replayed and dropped."""
    added = [dead(row(f"a{at}")) for at in range(3)]
    letters.add(added)
    kill_in(journal, [row("b")])
    found = letters.read(list(letters.select(Selection()).letters))
    assert [one.row.id for one in found] == ["a0", "a1", "a2", "b"]
    assert [one.row.seq for one in added] == [one.row.seq for one in found[:3]]
    assert (found[0].error, found[0].attempts, found[0].row.payload) == (
        added[0].error,
        1,
        added[0].row.payload,
    )
    assert waiting(journal) == []
    assert run(letters, Selection(ids=("a0",))).replayed == 1
    assert [one.id for one in waiting(journal)] == ["a0"]
    accounts, stored = journal.ledger()
    account = accounts["amqp.orders"]
    assert (account.accepted, account.fatal, account.pending, account.difference) == (5, 4, 1, 0)
    assert stored in (None, 5)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"], indirect=True)  # in memory nothing can fail
def test_a_replay_that_fails_moves_nothing(letters: DeadLetters, journal: Journal) -> None:
    """Letter and row are one transaction: an error while it runs leaves the letter."""
    kill_in(journal, [row("1"), row("2")])
    numbers = list(letters.select(Selection()).letters)
    good, bad = (row("1"), row("2"))
    bad.payload = None  # type: ignore[assignment]
    with pytest.raises(OutboxError):
        letters.move([(numbers[0], good), (numbers[1], bad)])
    assert list(letters.select(Selection()).letters) == numbers
    assert waiting(journal) == []
    accept(journal, [row("3")])
    assert journal.accounts()["amqp.orders"].difference == 0
