"""Tests of what a state store keeps: values, times, expiry, keys, its life."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.json_numbers import read_json
from rambla_py.state import StateKeyError, StateNotReadyError, StateRecord, StateStore, StateValueError
from rambla_py.testing.flags import only_if
from rambla_py.testing.state_model import check_against_model
from rambla_py.testing.state_tests.case import VERBS, StateCase, unversioned

__all__ = ["RecordTests"]

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
_KEYS = ["a", " ", "a/b", "../up", "..", "?x=1&y#z", "%41", "Grüße 世界 \U0001f600", "*", "\n\t"]
_BAD_KEYS: list[Any] = ["", 7, None, b"a", "k" * 1025, "\ud800", "a\0b"]
# More digits than a float has, and an exponent that none has.
_NUMBERS = b'{"price":12345678901234567890.25,"pi":[3.14159265358979323846264338327950288],"tiny":1.5E-400}'
_BAD_EXPIRIES: list[Any] = [0, -1, float("nan"), float("inf"), 1e10, True, "60"]
_KEYED_VERBS: list[Callable[[StateStore, Any], Any]] = [
    lambda store, key: store.get(key),
    lambda store, key: store.get_many(["good", key]),
    lambda store, key: store.set(key, 1),
    lambda store, key: store.set_many({"good": 1, key: 2}),
    lambda store, key: store.put(StateRecord(key, 1, 1.0, 1.0)),
    lambda store, key: store.delete(key),
]
_THREADS = 4
_EACH = 15


class RecordTests(StateCase):
    """Records are kept as they are set, until they expire or are removed."""

    # -- values ---------------------------------------------------------------------------------------

    def test_a_value_comes_back_as_it_was_set(self) -> None:
        """``set`` returns the record that ``get`` returns, for each kind of value that JSON holds."""
        with self.opened() as (store, clock):
            for kind, value in _VALUES.items():
                record = store.set(kind, value)
                assert unversioned(record) == StateRecord(kind, value, clock.now, clock.now)
                assert store.get(kind) == record

    def test_what_was_not_set_is_none(self) -> None:
        """A key that was never set, among others."""
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

    def test_a_key_is_any_string(self) -> None:
        """Slashes, dots, spaces, other alphabets, a kilobyte: each is a key for every method."""
        with self.opened() as (store, _):
            for key in [*_KEYS, "k" * self.max_key_bytes]:
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
            record = store.set("a", 2)
            assert unversioned(record) == StateRecord("a", 2, created_at, updated_at)
            assert store.get("a") == record

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
            assert list(map(unversioned, store.set_many({"z": 1, "b": 2}, expires_s=5))) == [
                StateRecord("z", 1, now, now, now + 5),
                StateRecord("b", 2, created_at, now, now + 5),
            ]
            assert store.set_many({}) == []

    def test_put_keeps_a_record_as_it_is(self) -> None:
        """Its times and version too, whatever was there before; one that has expired is not there."""
        created_at, updated_at = (100.0, 200.0) if self.time_resolution_s else (100.5, 200.25)
        with self.opened() as (store, clock):
            store.set("a", 1)
            record = StateRecord("a", [2], created_at, updated_at, clock.now + 3, "a-version")
            store.put(record)
            assert store.get("a") == record
            store.put(StateRecord("a", 3, created_at, updated_at, clock.now))
            assert store.get("a") is None

    def test_numbers_keep_all_their_digits(self) -> None:
        """Read from JSON text, set, read, and copied by ``put``: the JSON text is the same."""
        with self.opened() as (store, _):
            record = store.set("a", read_json(_NUMBERS))
            copy = store.get("a")
            assert copy is not None
            store.put(copy)
            again = store.get_all()[0]
            assert [to_json(each.value) for each in (record, copy, again)] == [_NUMBERS] * 3

    # -- expiry ---------------------------------------------------------------------------------------

    def test_an_expired_record_is_not_there(self) -> None:
        """Not for get, get_all or delete; until it expires, it is there for all of them."""
        with self.opened() as (store, clock):
            store.set_many({"a": 1, "b": 2}, expires_s=10)
            store.set("stays", 3)
            last_s = self.time_resolution_s or 0.001
            clock.advance(10 - last_s)
            assert len(store.get_all()) == 3
            clock.advance(last_s)
            assert [record.key for record in store.get_all()] == ["stays"]
            assert store.get("a") is None
            assert store.delete("b") is False

    def test_a_key_that_expired_starts_again(self) -> None:
        """Setting it makes a new record, with its own creation time."""
        with self.opened() as (store, clock):
            store.set("a", 1, expires_s=10)
            now = clock.advance(10)
            assert unversioned(store.set("a", 2)) == StateRecord("a", 2, now, now)

    def test_setting_again_replaces_the_expiry(self) -> None:
        """It counts from the last set."""
        with self.opened() as (store, clock):
            store.set("a", 1, expires_s=10)
            clock.advance(9)
            store.set("a", 2, expires_s=10)
            clock.advance(9)
            assert store.get_all()[0].value == 2

    def test_cleanup_counts_what_expired(self) -> None:
        """Expired records are removed and counted; the others stay, and a second call finds none."""
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

    def test_an_invalid_key_is_refused(self) -> None:
        """Every method that takes a key refuses it, and nothing is written."""
        with self.opened() as (store, _):
            for key in _BAD_KEYS:
                for verb in _KEYED_VERBS:
                    with pytest.raises(StateKeyError):
                        verb(store, key)
            assert store.get_all() == []

    def test_what_json_cannot_hold_is_refused_with_its_path(self) -> None:
        """Nothing of a ``set_many`` is written, and what was there stays."""
        with self.opened() as (store, _):
            before = store.set("a", 1)
            with pytest.raises(StateValueError) as caught:
                store.set_many({"a": 2, "b": {"lines": [0, object()]}})
            assert caught.value.key.endswith("b")
            assert caught.value.path == "$.lines[1]"
            assert store.get_all() == [before]

    def test_an_invalid_expiry_is_refused(self) -> None:
        """Zero, negative, not finite, over 10^9 seconds, or no number."""
        with self.opened() as (store, _):
            for expires_s in _BAD_EXPIRIES:
                with pytest.raises(StateValueError, match="expires_s"):
                    store.set("a", 1, expires_s=expires_s)
            assert store.get("a") is None

    # -- opening and closing --------------------------------------------------------------------------

    def test_a_verb_before_init_or_after_close_is_refused(self) -> None:
        """The error names ``init()``."""
        store = self.make(self.new_clock())
        for _ in range(2):
            for verb in VERBS:
                with pytest.raises(StateNotReadyError, match=r"init\(\)"):
                    verb(store)
            store.init()
            store.close()

    def test_opening_and_closing_twice_does_no_harm(self) -> None:
        """Nor does closing what was never opened; a closed store can be opened again."""
        store = self.make(self.new_clock())
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
        """What one sets, replaces or deletes, the other sees."""
        with self.opened() as (one, clock), self.make(clock) as two:
            record = one.set("a", 1)
            assert two.get("a") == record
            clock.advance(1)
            assert two.set("a", 2).created_at == record.created_at
            assert one.get_all()[0].value == 2
            two.delete("a")
            assert one.get("a") is None

    def test_random_verbs_do_what_a_dict_would(self) -> None:
        """Any sequence of methods, with time passing, gives what a plain dict gives."""
        check_against_model(self.make, self.new_clock, self.time_resolution_s)
