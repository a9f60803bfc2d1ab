"""Tests of conditional writes: by absence, and by version."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rambla_py.state import StateConflictError, StateStore, StateValueError
from rambla_py.testing.state_tests.case import StateCase

__all__ = ["ConditionTests"]

_THREADS = 4
_EACH = 10


class ConditionTests(StateCase):
    """A condition and its write are one step; what fails writes nothing."""

    def test_a_version_changes_with_every_set(self) -> None:
        """Also when the value and the time are the same, and after the record was removed."""
        with self.opened() as (store, _):
            versions = [store.set("a", 1).version for _ in range(3)]
            store.delete("a")
            versions += [store.set("a", 1).version, store.set_many({"a": 1})[0].version]
            assert len(set(versions)) == 5
            assert "" not in versions
            record = store.get("a")
            assert record is not None
            assert record.version == versions[-1]

    def test_if_absent_sets_only_a_key_without_a_record(self) -> None:
        """An existing record stays as it is; an expired one does not exist."""
        with self.opened() as (store, clock):
            record = store.set("a", 1, if_absent=True, expires_s=10)
            with pytest.raises(StateConflictError) as caught:
                store.set("a", 2, if_absent=True)
            assert caught.value.key.endswith("a")
            assert store.get("a") == record
            now = clock.advance(10)
            assert store.set("a", 3, if_absent=True).created_at == now

    def test_if_version_sets_only_the_record_that_was_read(self) -> None:
        """One that was set since, one that is gone, and one that has expired are conflicts."""
        with self.opened() as (store, clock):
            first = store.set("a", 1)
            second = store.set("a", 2, if_version=first.version, expires_s=10)
            assert (second.value, second.created_at) == (2, first.created_at)
            with pytest.raises(StateConflictError):
                store.set("a", 3, if_version=first.version)
            assert store.get("a") == second
            clock.advance(10)
            with pytest.raises(StateConflictError):
                store.set("a", 3, if_version=second.version)
            with pytest.raises(StateConflictError):
                store.set("never", 3, if_version=second.version)
            assert store.get_all() == []

    def test_delete_by_version_leaves_another_one(self) -> None:
        """A lock that another process has taken since is kept; a record that is gone is no conflict."""
        with self.opened() as (store, _):
            mine = store.set("lock", "me")
            theirs = store.set("lock", "them")
            with pytest.raises(StateConflictError):
                store.delete("lock", if_version=mine.version)
            assert store.get("lock") == theirs
            assert store.delete("lock", if_version=theirs.version) is True
            assert store.delete("lock", if_version=theirs.version) is False

    def test_a_condition_of_a_wrong_kind_is_refused(self) -> None:
        """Both conditions at once, or a version that is not a string."""
        with self.opened() as (store, _):
            wrong: list[dict[str, Any]] = [{"if_absent": True, "if_version": "x"}, {"if_version": 7}]
            for conditions in wrong:
                with pytest.raises(StateValueError, match="if_version"):
                    store.set("a", 1, **conditions)
            assert store.get_all() == []

    def test_of_threads_that_set_an_absent_key_one_succeeds(self) -> None:
        """A lock has one owner."""

        def take(store: StateStore, number: int) -> int | None:
            try:
                store.set("lock", number, if_absent=True)
            except StateConflictError:
                return None
            return number

        with self.opened() as (store, _):
            owners = [number for number in _at_once(lambda n: take(store, n)) if number is not None]
            record = store.get("lock")
            assert record is not None
            assert owners == [record.value]

    def test_threads_that_compare_and_set_lose_no_update(self) -> None:
        """A counter: each thread reads it, adds one, and tries again after a conflict."""

        def add(store: StateStore) -> int:
            while True:
                record = store.get("count")
                assert record is not None
                try:
                    store.set("count", record.value + 1, if_version=record.version)
                except StateConflictError:
                    continue
                return 1

        with self.opened() as (store, _):
            store.set("count", 0)
            _at_once(lambda _: [add(store) for _ in range(_EACH)])
            record = store.get("count")
            assert record is not None
            assert record.value == _THREADS * _EACH


def _at_once(call: Callable[[int], Any]) -> list[Any]:
    """Run a call on several threads at the same time; return the results."""
    begin = threading.Barrier(_THREADS)

    def run(number: int) -> Any:
        begin.wait()
        return call(number)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(run, range(_THREADS)))
