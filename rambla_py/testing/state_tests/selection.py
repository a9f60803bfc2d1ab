"""Tests of reading and removing several records: by keys, by prefix, by namespace."""

from __future__ import annotations

import pytest

from rambla_py.state import StateKeyError
from rambla_py.testing.state_tests.case import StateCase, unversioned

__all__ = ["SelectionTests"]

_PREFIXES = ["", "a", "a:", "A", "a*", "a?", "a[", "a%", "a_", "a\\", "ä", "\U0010ffff", "absent"]
_BAD_NAMES = ["", "\ud800", "n\0", 7]


class SelectionTests(StateCase):
    """Records are selected by exact prefixes: no character is a pattern."""

    def test_get_many_returns_the_records_that_there_are(self) -> None:
        """By key, in the order of the keys; what is missing or has expired is not in it."""
        with self.opened() as (store, clock):
            store.set("gone", 0, expires_s=1)
            for number in range(600):
                store.set(f"k{number}", number) if number < 3 else None
            store.set_many({f"k{number}": number for number in range(3, 600)})
            clock.advance(1)
            keys = [f"k{number}" for number in reversed(range(600))]
            found = store.get_many(["gone", "never", *keys, "k1"])
            assert list(found) == keys
            assert [record.value for record in found.values()] == list(reversed(range(600)))
            assert store.get_many([]) == {}

    def test_a_prefix_selects_the_keys_that_begin_with_it(self) -> None:
        """For ``get_all`` and ``clear``; case counts, and no character is a pattern."""
        for prefix in _PREFIXES:
            with self.opened() as (store, _):
                store.clear()
                keys = sorted({"a", "a:1", "ab", "A", "aa*", *(f"{each}x" for each in _PREFIXES)})
                store.set_many(dict.fromkeys(keys, 1))
                wanted = [key for key in keys if key.startswith(prefix)]
                assert [record.key for record in store.get_all(prefix)] == wanted
                store.clear(prefix)
                left = [record.key for record in store.get_all()]
                assert left == [key for key in keys if not key.startswith(prefix)]

    def test_cleanup_by_prefix_leaves_the_others_to_be_counted(self) -> None:
        """Expired records of another prefix are counted when their turn comes."""
        with self.opened() as (store, clock):
            store.set_many({"a:1": 1, "a:2": 1, "b:1": 1}, expires_s=10)
            clock.advance(10)
            assert [store.cleanup_expired("a:"), store.cleanup_expired("a:")] == [2, 0]
            assert store.cleanup_expired() == 1

    def test_a_namespace_has_its_own_keys(self) -> None:
        """Every method sees the records of the namespace only; the store has them under its name."""
        with self.opened() as (store, clock):
            carts, users = store.namespace("carts"), store.namespace("users")
            record = carts.set("ada", 1, expires_s=10)
            users.set_many({"ada": 2, "grace": 3})
            assert (record.key, carts.get("ada")) == ("ada", record)
            whole = store.get("carts:ada")
            assert whole is not None
            assert (whole.value, whole.version) == (1, record.version)
            assert [each.key for each in users.get_all()] == ["ada", "grace"]
            assert list(users.get_many(["grace", "never"])) == ["grace"]
            clock.advance(10)
            assert (users.cleanup_expired(), carts.cleanup_expired()) == (0, 1)
            users.clear("g")
            assert users.delete("ada") is True
            assert store.get_all() == []

    def test_a_namespace_copies_and_nests(self) -> None:
        """``put`` adds the name to the key; a namespace of a namespace has both names."""
        with self.opened() as (store, _):
            record = store.set("a", 1)
            store.namespace("x").namespace("y").put(record)
            copy = store.get("x:y:a")
            assert copy is not None
            assert (copy.key, copy.version) == ("x:y:a", record.version)
            assert unversioned(store.namespace("x:y").get("a")) == unversioned(record)

    def test_a_namespace_is_open_with_its_store(self) -> None:
        """And opens and closes it otherwise."""
        store = self.make(self.new_clock())
        with store.namespace("x") as opening:
            assert store.ready
            opening.set("a", 1)
        assert not store.ready
        with store:
            with store.namespace("x") as inner:
                inner.set("a", 1)
            assert store.ready

    def test_a_name_or_prefix_that_no_key_has_is_refused(self) -> None:
        """With the reason, as for keys."""
        with self.opened() as (store, _):
            for name in _BAD_NAMES:
                with pytest.raises(StateKeyError):
                    store.namespace(name)  # type: ignore[arg-type]  # that is the test
                if name != "":
                    with pytest.raises(StateKeyError):
                        store.get_all(name)  # type: ignore[arg-type]
