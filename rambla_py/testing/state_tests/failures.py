"""Tests of a store that cannot be reached, or has no room."""

from __future__ import annotations

import asyncio

import pytest

from rambla_py.state import StateQuotaError, StateStore, StateUnavailableError
from rambla_py.testing.flags import only_if
from rambla_py.testing.state_tests.case import WRITES, StateCase

__all__ = ["FailureTests"]

_LARGE = "x" * 4_000_000


class FailureTests(StateCase):
    """A failure of the store's server or disk is a ``StateError``, with what is known of the write."""

    @only_if("can_break")
    def test_a_broken_store_raises_state_unavailable(self) -> None:
        """Every write raises it, and names the store; a read raises it, or still returns what was kept."""
        with self.broken(self.new_clock()) as store:
            for write in WRITES:
                with pytest.raises(StateUnavailableError) as caught:
                    write(store)
                assert caught.value.applied in ("no", "unknown")
                assert caught.value.store
            try:
                record = store.get("a")
                assert record is not None
                assert [each.key for each in store.get_all()] == ["a"]
            except StateUnavailableError:
                pass

    @only_if("can_break")
    def test_a_broken_store_raises_the_same_when_awaited(self) -> None:
        """``aset`` and ``adelete``."""

        async def use() -> None:
            with self.broken(self.new_clock()) as store:
                with pytest.raises(StateUnavailableError):
                    await store.aset("a", 2)
                with pytest.raises(StateUnavailableError):
                    await store.adelete("a")
                await store.aclose()

        asyncio.run(use())

    @only_if("has_quota")
    def test_a_full_store_raises_state_quota(self) -> None:
        """Nothing is written, of several keys either: the old value stays, and can be removed."""

        async def use(store: StateStore) -> None:
            with pytest.raises(StateQuotaError):
                await store.aset("b", _LARGE)
            await store.aclose()  # on this loop, which its connections belong to

        with self.full(self.new_clock()) as store:
            with pytest.raises(StateQuotaError):
                store.set("a", _LARGE)
            with pytest.raises(StateQuotaError):
                store.set_many({"small": 1, "large": _LARGE})
            assert [(record.key, record.value) for record in store.get_all()] == [("a", 1)]
            assert store.delete("a") is True
            asyncio.run(use(store))
