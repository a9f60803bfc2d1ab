"""Tests of the awaitable twins of a store's methods."""

from __future__ import annotations

import asyncio

import pytest

from rambla_py.state import StateConflictError, StateKeyError, StateNotReadyError
from rambla_py.testing.state_tests.case import StateCase

__all__ = ["TwinTests"]


class TwinTests(StateCase):
    """``await store.aget(...)`` does what ``store.get(...)`` does."""

    def test_awaited_methods_do_the_same(self) -> None:
        """Each of them, on one store, in an event loop that keeps running."""
        clock = self.new_clock()

        async def use() -> None:
            async with self.make(clock) as store:
                record = await store.aset("a", {"x": 1}, expires_s=10)
                assert await store.aget("a") == record == store.get("a")
                others = await store.aset_many({"b": 2, "c": 3})
                assert await store.aget_many(["c", "never"]) == {"c": others[1]}
                assert await store.aget_all() == [record, *others]
                assert await store.aget_all("b") == [others[0]]
                await store.aput(record)
                assert await store.aget("a") == record
                with pytest.raises(StateConflictError):
                    await store.aset("a", 2, if_absent=True)
                second = await store.aset("a", 2, if_version=record.version, expires_s=10)
                with pytest.raises(StateConflictError):
                    await store.adelete("a", if_version=record.version)
                assert await store.adelete("a", if_version=second.version) is True
                assert await store.adelete("a") is False
                await store.aset("gone", 1, expires_s=10)
                clock.advance(10)
                assert await store.acleanup_expired() == 1
                await store.aclear("b")
                inner = store.namespace("n")
                mine = await inner.aset("a", 1)
                assert (await inner.aget("a"), await inner.aget_all()) == (mine, [mine])
                assert await inner.aget_many(["a"]) == {"a": mine}
                assert [each.key for each in await store.aget_all()] == ["c", "n:a"]
                await inner.aclear()
                await store.aclear()
                assert store.get_all() == []

        asyncio.run(use())

    def test_many_calls_at_once_lose_nothing(self) -> None:
        """More of them than there are threads; each is made."""

        async def use() -> None:
            async with self.make(self.new_clock()) as store:
                await asyncio.gather(*(store.aset(f"k{number}", number) for number in range(40)))
                assert len(await store.aget_all("k")) == 40

        asyncio.run(use())

    def test_an_awaited_method_refuses_what_the_other_does(self) -> None:
        """A bad key, and a store that is not open; a store may be used by one event loop after another."""
        store = self.make(self.new_clock())

        async def use() -> None:
            with pytest.raises(StateNotReadyError):
                await store.aget("a")
            async with store:
                await store.aset("a", 1)
                with pytest.raises(StateKeyError):
                    await store.aget("")
            with pytest.raises(StateNotReadyError):
                await store.aset("a", 1)

        asyncio.run(use())
        asyncio.run(use())
