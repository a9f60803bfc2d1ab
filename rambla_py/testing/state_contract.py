"""This module is the contract suite of state stores: what every store promises, as tests to inherit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from rambla_py.state import (
    StateKeyError,
    StateNotReadyError,
    StateRecord,
    StateStore,
    StateValueError,
)
from rambla_py.testing.clock import FakeClock
from rambla_py.testing.contract_case import only_if
from rambla_py.testing.state_model import LATER_S, check_against_model

__all__ = ["StateContract"]

_VALUES: dict[str, Any] = {
    "none": None,
    "false": False,
    "zero": 0,
    "integer": -(2**63),
    "large-integer": 2**70,
    "float": 0.1,
    "text": "two\nlines",
    "empty-text": "",
    "unicode": "Grüße, 世界, \U0001f600, \x00",
    "list": [1, [2.5, None], {"x": "y"}],
    "mapping": {"": 1, "a b": {"c": [True]}},
    "large": "x" * 1_000_000,
}
_KEYS = ["a", " ", "a/b", "../up", "..", "?x=1&y#z", "%41", "Grüße 世界 \U0001f600", "*", "k" * 1024, "\n\t"]
_BAD_KEYS = {
    "empty": "",
    "number": 7,
    "none": None,
    "bytes": b"a",
    "long": "k" * 1025,
    "surrogate": "\ud800",
    "nul": "a\0b",
}
_VERBS: dict[str, Callable[[StateStore], Any]] = {
    "get": lambda store: store.get("a"),
    "set": lambda store: store.set("a", 1),
    "set_many": lambda store: store.set_many({"a": 1}),
    "put": lambda store: store.put(StateRecord("a", 1, 1.0, 1.0)),
    "delete": lambda store: store.delete("a"),
    "get_all": lambda store: store.get_all(),
    "clear": lambda store: store.clear(),
    "cleanup_expired": lambda store: store.cleanup_expired(),
}
_THREADS = 4
_EACH = 15


class StateContract:
    """The promises of a state store. Inherit it, name it ``Test...``, write ``make``, and run pytest.

    Each test has a new instance of the class; take fixtures in an ``autouse`` fixture of the subclass, so
    that each test has a place of its own, which is empty. ``shared = False`` says that two stores of one
    place do not see each other's records, ``durable = False`` that they end with the store that was closed.
    Needs hypothesis beside pytest.

    ::

        class TestShelf(StateContract):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            def make(self, clock):
                return ShelfStore(self.folder / "shelf", clock=clock)
    """

    shared: ClassVar[bool] = True
    durable: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, test in vars(StateContract).items():
            flag = getattr(test, "_rambla_flag", None)
            if flag is not None and name not in vars(cls):
                setattr(cls, name, test if getattr(cls, flag) else None)

    def make(self, clock: Callable[[], float]) -> StateStore:
        """Return a store of this test's place, not yet opened; ``clock`` is its time."""
        raise NotImplementedError("write make(clock)")

    @contextmanager
    def opened(self) -> Iterator[tuple[StateStore, FakeClock]]:
        """Give an open store, and the clock that it goes by."""
        clock = FakeClock(time.time() + LATER_S)
        with self.make(clock) as store:
            yield store, clock

    # -- keeping --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", _VALUES)
    def test_a_value_comes_back_as_it_was_set(self, kind: str) -> None:
        """Each kind of value that JSON holds; ``set`` returns the record that ``get`` gives."""
        with self.opened() as (store, clock):
            record = store.set("a", _VALUES[kind])
            assert record == StateRecord("a", _VALUES[kind], clock.now, clock.now)
            assert store.get("a") == record

    def test_what_was_not_set_is_none(self) -> None:
        """A key that nobody set, among others."""
        with self.opened() as (store, _):
            store.set("a", 1)
            assert store.get("A") is None

    def test_what_json_cannot_tell_apart_comes_back_as_json_has_it(self) -> None:
        """A tuple as a list, a key that is a number as text, in ``set``'s answer too."""
        with self.opened() as (store, _):
            assert store.set("a", {"x": (1, 2), 7: None}).value == {"x": [1, 2], "7": None}

    def test_a_record_does_not_change_with_the_object(self) -> None:
        """What is set is a copy, and what is got is one."""
        with self.opened() as (store, _):
            value = [1]
            store.set("a", value).value.append(2)
            value.append(3)
            assert store.get_all()[0].value == [1]

    @pytest.mark.parametrize("key", _KEYS)
    def test_a_key_is_any_text(self, key: str) -> None:
        """Slashes, dots, blanks, other alphabets, a kilobyte: each is a key for every verb."""
        with self.opened() as (store, _):
            record = store.set(key, key)
            assert (store.get(key), store.get_all()) == (record, [record])
            assert store.delete(key)
            assert store.get(key) is None

    def test_keys_that_differ_in_case_only_are_two(self) -> None:
        """``a`` and ``A``, and what looks alike when it is quoted."""
        with self.opened() as (store, _):
            keys = ["A", "a", "a%2Fb", "a/b", "a-b"]
            for key in keys:
                store.set(key, key)
            assert [record.value for record in store.get_all()] == sorted(keys)

    def test_setting_again_keeps_the_creation(self) -> None:
        """``created_at`` stays, ``updated_at`` moves, the value and the expiry are the new ones."""
        with self.opened() as (store, clock):
            created_at = store.set("a", 1, expires_s=60).created_at
            updated_at = clock.advance(5)
            assert store.set("a", 2) == StateRecord("a", 2, created_at, updated_at)
            assert store.get("a") == StateRecord("a", 2, created_at, updated_at)

    def test_deleting_says_whether_there_was_one(self) -> None:
        """And the next record of that key is a new one."""
        with self.opened() as (store, clock):
            store.set("a", 1)
            assert [store.delete("a"), store.delete("a")] == [True, False]
            now = clock.advance(1)
            assert store.set("a", 2).created_at == now

    def test_get_all_gives_every_record_by_key(self) -> None:
        """Some hundred of them, sorted."""
        with self.opened() as (store, _):
            store.set_many({f"k{number}": number for number in range(600)})
            records = store.get_all()
            assert [record.key for record in records] == sorted(f"k{number}" for number in range(600))

    def test_clear_removes_all(self) -> None:
        """Nothing is left, and what is set afterwards is new."""
        with self.opened() as (store, _):
            store.set_many({"a": 1, "b": 2})
            store.clear()
            assert (store.get("a"), store.get_all()) == (None, [])

    def test_set_many_returns_the_records_in_order(self) -> None:
        """New ones and known ones, with one expiry."""
        with self.opened() as (store, clock):
            created_at = store.set("b", 0).created_at
            now = clock.advance(1)
            assert store.set_many({"z": 1, "b": 2}, expires_s=5) == [
                StateRecord("z", 1, now, now, now + 5),
                StateRecord("b", 2, created_at, now, now + 5),
            ]
            assert store.set_many({}) == []

    def test_put_keeps_a_record_as_it_is(self) -> None:
        """Its times too, whatever stood there before; one that has expired is not there."""
        with self.opened() as (store, clock):
            store.set("a", 1)
            record = StateRecord("a", [2], 100.5, 200.25, clock.now + 3)
            store.put(record)
            assert store.get("a") == record
            store.put(StateRecord("a", 3, 100.5, 200.25, clock.now))
            assert store.get("a") is None

    # -- expiry ---------------------------------------------------------------------------------------

    def test_an_expired_record_is_not_there(self) -> None:
        """Not for get, not for get_all, not for delete; until then it is, for all of them."""
        with self.opened() as (store, clock):
            store.set_many({"a": 1, "b": 2}, expires_s=10)
            store.set("stays", 3)
            clock.advance(9.999)
            assert len(store.get_all()) == 3
            clock.advance(0.001)
            assert [record.key for record in store.get_all()] == ["stays"]
            assert store.get("a") is None
            assert store.delete("b") is False

    def test_a_key_that_expired_begins_anew(self) -> None:
        """Setting it makes a new record, with a creation of its own."""
        with self.opened() as (store, clock):
            store.set("a", 1, expires_s=10)
            now = clock.advance(10)
            assert store.set("a", 2) == StateRecord("a", 2, now, now)

    def test_setting_again_sets_the_expiry_anew(self) -> None:
        """Counted from then on."""
        with self.opened() as (store, clock):
            store.set("a", 1, expires_s=10)
            clock.advance(9)
            store.set("a", 2, expires_s=10)
            clock.advance(9)
            assert store.get_all()[0].value == 2

    def test_cleanup_counts_what_expired(self) -> None:
        """Those that expired and nobody removed; the others stay, and a second time there are none."""
        with self.opened() as (store, clock):
            store.set_many({"a": 1, "b": 2, "c": 3}, expires_s=10)
            store.set("later", 4, expires_s=20)
            store.set("stays", 5)
            assert store.cleanup_expired() == 0
            clock.advance(10)
            store.set("a", 6)
            assert [store.cleanup_expired(), store.cleanup_expired()] == [2, 0]
            assert [record.key for record in store.get_all()] == ["a", "later", "stays"]

    # -- what is refused ------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", _BAD_KEYS)
    def test_what_is_no_key_is_refused(self, kind: str) -> None:
        """By every verb that takes one, and nothing is written."""
        key: Any = _BAD_KEYS[kind]
        with self.opened() as (store, _):
            tries: list[Callable[[], Any]] = [
                lambda: store.get(key),
                lambda: store.set(key, 1),
                lambda: store.set_many({"good": 1, key: 2}),
                lambda: store.put(StateRecord(key, 1, 1.0, 1.0)),
                lambda: store.delete(key),
            ]
            for attempt in tries:
                with pytest.raises(StateKeyError):
                    attempt()
            assert store.get_all() == []

    def test_what_json_cannot_hold_is_refused_with_its_path(self) -> None:
        """Nothing of a ``set_many`` is written, and what was there stays."""
        with self.opened() as (store, _):
            before = store.set("a", 1)
            with pytest.raises(StateValueError) as caught:
                store.set_many({"a": 2, "b": {"lines": [0, object()]}})
            assert (caught.value.key, caught.value.path) == ("b", "$.lines[1]")
            assert store.get_all() == [before]

    @pytest.mark.parametrize("expires_s", [0, -1, float("nan"), float("inf"), True, "60"])
    def test_an_expiry_that_is_no_time_is_refused(self, expires_s: Any) -> None:
        """Zero, below, endless, or no number."""
        with self.opened() as (store, _):
            with pytest.raises(StateValueError, match="expires_s"):
                store.set("a", 1, expires_s=expires_s)
            assert store.get("a") is None

    # -- its life -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("verb", _VERBS)
    def test_a_verb_before_init_or_after_close_is_refused(self, verb: str) -> None:
        """With an error that says what to do."""
        store = self.make(FakeClock(time.time() + LATER_S))
        for _ in range(2):
            with pytest.raises(StateNotReadyError, match=r"init\(\)"):
                _VERBS[verb](store)
            store.init()
            store.close()

    def test_opening_and_closing_twice_does_no_harm(self) -> None:
        """Nor does closing what was never opened; a closed store can be opened again."""
        store = self.make(FakeClock(time.time() + LATER_S))
        store.close()
        for _ in range(2):
            store.init()
            store.init()
            store.set("a", 1)
            store.close()
            store.close()
        assert not store.ready

    @only_if("durable")
    def test_records_outlive_their_store(self) -> None:
        """Another store of the same place finds them, as they were."""
        with self.opened() as (store, clock):
            record = store.set("a", {"x": 1}, expires_s=60)
        with self.make(clock) as again:
            assert again.get("a") == record

    # -- many at once ---------------------------------------------------------------------------------

    def test_threads_lose_nothing(self) -> None:
        """Threads that write to one store, keys of their own and a common one: every record is there."""
        begin = threading.Barrier(_THREADS)

        def write(number: int) -> None:
            begin.wait()
            for at in range(_EACH):
                store.set(f"{number}-{at}", at)
                store.set("common", number)

        with self.opened() as (store, _):
            first = store.set("common", None)
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(write, range(_THREADS)))
            records = {record.key: record for record in store.get_all()}
            assert len(records) == _THREADS * _EACH + 1
            assert records["common"].created_at == first.created_at

    @only_if("shared")
    def test_two_stores_of_one_place_see_each_other(self) -> None:
        """What one sets, replaces or deletes, the other finds so."""
        with self.opened() as (one, clock), self.make(clock) as two:
            record = one.set("a", 1)
            assert two.get("a") == record
            clock.advance(1)
            assert two.set("a", 2).created_at == record.created_at
            assert one.get_all()[0].value == 2
            two.delete("a")
            assert one.get("a") is None

    def test_random_verbs_do_what_a_dict_would(self) -> None:
        """Any sequence of verbs, with time passing, gives what a plain dict gives."""
        check_against_model(self.make)
