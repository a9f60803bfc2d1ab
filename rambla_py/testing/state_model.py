"""Stateful comparison of a state store with a dict, driven by hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rambla_py.state import StateConflictError, StateRecord, StateStore
from rambla_py.testing.clock import FakeClock

__all__ = ["LATER_S", "check_against_model"]

LATER_S = 86_400.0
"""How far the clocks of tests are ahead, so that a server never expires a record by its own clock first."""

_MAX_EXAMPLES = 25
_STEPS = 25

_keys = st.sampled_from(["a", "b", "key with blanks", "../up", "%2F/?&#", "Grüße 世界", "\n", "A", "*[x]\\"])
_prefixes = st.sampled_from(["", "a", "A", "key ", "../", "%", "*", "_", "Grüße", "\U0010ffff"])
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", ""]), inner, max_size=2)
    ),
    max_leaves=5,
)
_ttls = st.none() | st.sampled_from([2, 4, 40])
_UNIT_S = 0.25


class _Model(RuleBasedStateMachine):
    """A store beside a dict that never removes an expired record by itself; ``unit_s`` scales all times."""

    def __init__(
        self, make: Callable[[FakeClock], StateStore], new_clock: Callable[[], FakeClock], unit_s: float
    ) -> None:
        super().__init__()
        self.clock, self.unit_s = new_clock(), unit_s
        self.store = make(self.clock)
        self.model: dict[str, StateRecord] = {}
        self.versions: set[str] = set()

    @initialize()
    def begin(self) -> None:
        self.store.init()
        self.store.clear()

    @rule(key=_keys, value=_values, ttl=_ttls)
    def set(self, key: str, value: Any, ttl: int | None) -> None:
        self.record(self.store.set(key, value, expires_s=self.seconds(ttl)), self.expect(key, value, ttl))

    @rule(key=_keys, value=_values, ttl=_ttls)
    def set_if_absent(self, key: str, value: Any, ttl: int | None) -> None:
        if self.live(key) is None:
            record = self.store.set(key, value, expires_s=self.seconds(ttl), if_absent=True)
            self.record(record, self.expect(key, value, ttl))
        else:
            with pytest.raises(StateConflictError):
                self.store.set(key, value, if_absent=True)

    @rule(key=_keys, value=_values, ttl=_ttls, is_current=st.booleans())
    def set_if_version(self, key: str, value: Any, ttl: int | None, is_current: bool) -> None:
        live = self.live(key)
        if is_current and live is not None:
            expires_s = self.seconds(ttl)
            record = self.store.set(key, value, expires_s=expires_s, if_version=live.version)
            self.record(record, self.expect(key, value, ttl))
        else:
            with pytest.raises(StateConflictError):
                self.store.set(key, value, if_version="another")

    @rule(values=st.dictionaries(_keys, _values, max_size=4), ttl=_ttls)
    def set_many(self, values: dict[str, Any], ttl: int | None) -> None:
        expected = [self.expect(key, value, ttl) for key, value in values.items()]
        records = self.store.set_many(values, expires_s=self.seconds(ttl))
        assert len(records) == len(expected)
        for record, wanted in zip(records, expected, strict=True):
            self.record(record, wanted)

    @rule(key=_keys, value=_values, stays=st.none() | st.sampled_from([-4, 0, 8]))
    def put(self, key: str, value: Any, stays: int | None) -> None:
        now, unit_s = self.clock.now, self.unit_s
        expires_at = None if stays is None else now + stays * unit_s
        times = (now - 28 * unit_s, now - 12 * unit_s)
        self.model[key] = StateRecord(key, value, *times, expires_at, f"version {len(self.versions)}")
        self.versions.add(self.model[key].version)
        self.store.put(self.model[key])

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (self.live(key) is not None)
        self.model.pop(key, None)

    @rule(key=_keys)
    def get(self, key: str) -> None:
        assert self.store.get(key) == self.live(key)

    @rule(keys=st.lists(_keys, max_size=4))
    def get_many(self, keys: list[str]) -> None:
        found = ((key, self.live(key)) for key in keys)
        assert self.store.get_many(keys) == {key: record for key, record in found if record is not None}

    @rule(prefix=_prefixes)
    def get_all(self, prefix: str) -> None:
        assert self.store.get_all(prefix) == self.live_records(prefix)

    @rule(prefix=_prefixes)
    def clear(self, prefix: str) -> None:
        self.store.clear(prefix)
        for key in [key for key in self.model if key.startswith(prefix)]:
            del self.model[key]

    @rule(prefix=_prefixes)
    def cleanup_expired(self, prefix: str) -> None:
        gone = [key for key in self.model if self.live(key) is None and key.startswith(prefix)]
        assert self.store.cleanup_expired(prefix) == len(gone)
        for key in gone:
            del self.model[key]

    @rule(units=st.sampled_from([1, 2, 4, 80]))
    def time_passes(self, units: int) -> None:
        self.clock.advance(units * self.unit_s)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store.init()

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        if self.store.ready:
            assert self.store.get_all() == self.live_records("")

    def teardown(self) -> None:
        self.store.close()

    def live(self, key: str) -> StateRecord | None:
        found = self.model.get(key)
        return None if found is None or found.expired(self.clock.now) else found

    def live_records(self, prefix: str) -> list[StateRecord]:
        keys = [key for key in sorted(self.model) if key.startswith(prefix)]
        return [record for key in keys if (record := self.live(key)) is not None]

    def seconds(self, units: int | None) -> float | None:
        return None if units is None else units * self.unit_s

    def record(self, record: StateRecord, expected: StateRecord) -> None:
        """Compare what a write returned, and keep its version, which must be new."""
        assert msgspec.structs.replace(record, version="") == expected
        assert record.version
        assert record.version not in self.versions
        self.versions.add(record.version)
        self.model[record.key] = record

    def expect(self, key: str, value: Any, ttl: int | None) -> StateRecord:
        now, before = self.clock.now, self.live(key)
        created_at = now if before is None else before.created_at
        expires_at = None if ttl is None else now + ttl * self.unit_s
        return StateRecord(key, value, created_at, now, expires_at)


def check_against_model(
    make: Callable[[FakeClock], StateStore], new_clock: Callable[[], FakeClock], time_resolution_s: float
) -> None:
    """Run random methods on the store that ``make`` returns; raises at the first difference from a dict."""
    chosen = settings(
        max_examples=min(settings().max_examples, _MAX_EXAMPLES), stateful_step_count=_STEPS, deadline=None
    )
    factory: Any = lambda: _Model(make, new_clock, max(time_resolution_s, _UNIT_S))  # noqa: E731 - typed as a class, and any callable does
    run_state_machine_as_test(factory, settings=chosen)
