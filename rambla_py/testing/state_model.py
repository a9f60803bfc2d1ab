"""This module checks a state store against a plain dict, with steps that hypothesis chooses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rambla_py.state import StateRecord, StateStore
from rambla_py.testing.clock import FakeClock

__all__ = ["LATER_S", "check_against_model"]

LATER_S = 86_400.0
"""How far the clocks of tests are ahead: a server that expires by its own clock then never comes first."""

_MOST_EXAMPLES = 25
_STEPS = 25

_keys = st.sampled_from(["a", "b", "key with blanks", "../up", "%2F/?&#", "Grüße 世界", "\n", "A", "*[x]\\"])
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
_ttls = st.none() | st.sampled_from([0.5, 1.0, 10.0])


class _Model(RuleBasedStateMachine):
    """A store beside a dict that never forgets an expired record by itself."""

    def __init__(self, make: Callable[[FakeClock], StateStore]) -> None:
        super().__init__()
        self.clock = FakeClock(time.time() + LATER_S)
        self.store = make(self.clock)
        self.model: dict[str, StateRecord] = {}

    @initialize()
    def begin(self) -> None:
        self.store.init()
        self.store.clear()

    @rule(key=_keys, value=_values, ttl=_ttls)
    def set(self, key: str, value: Any, ttl: float | None) -> None:
        assert self.store.set(key, value, expires_s=ttl) == self.expect(key, value, ttl)

    @rule(values=st.dictionaries(_keys, _values, max_size=4), ttl=_ttls)
    def set_many(self, values: dict[str, Any], ttl: float | None) -> None:
        expected = [self.expect(key, value, ttl) for key, value in values.items()]
        assert self.store.set_many(values, expires_s=ttl) == expected

    @rule(key=_keys, value=_values, stays_s=st.none() | st.sampled_from([-1.0, 0.0, 2.0]))
    def put(self, key: str, value: Any, stays_s: float | None) -> None:
        now = self.clock.now
        expires_at = None if stays_s is None else now + stays_s
        self.model[key] = StateRecord(key, value, now - 7.0, now - 3.0, expires_at)
        self.store.put(self.model[key])

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (self.live(key) is not None)
        self.model.pop(key, None)

    @rule(key=_keys)
    def get(self, key: str) -> None:
        assert self.store.get(key) == self.live(key)

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @rule()
    def cleanup_expired(self) -> None:
        gone = [key for key in self.model if self.live(key) is None]
        assert self.store.cleanup_expired() == len(gone)
        for key in gone:
            del self.model[key]

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store.init()

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        if self.store.ready:
            live = [record for key in sorted(self.model) if (record := self.live(key)) is not None]
            assert self.store.get_all() == live

    def teardown(self) -> None:
        self.store.close()

    def live(self, key: str) -> StateRecord | None:
        found = self.model.get(key)
        return None if found is None or found.expired(self.clock.now) else found

    def expect(self, key: str, value: Any, ttl: float | None) -> StateRecord:
        now, before = self.clock.now, self.live(key)
        created_at = now if before is None else before.created_at
        expires_at = None if ttl is None else now + ttl
        self.model[key] = StateRecord(key, value, created_at, now, expires_at)
        return self.model[key]


def check_against_model(make: Callable[[FakeClock], StateStore]) -> None:
    """Run random verbs on the store that ``make`` gives; raises at the first difference from a dict."""
    chosen = settings(
        max_examples=min(settings().max_examples, _MOST_EXAMPLES), stateful_step_count=_STEPS, deadline=None
    )
    factory: Any = lambda: _Model(make)  # noqa: E731 - typed as a class, and any callable does
    run_state_machine_as_test(factory, settings=chosen)
