"""Which of many like log lines are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rambla_py.telemetry.repeats import Repeats, Suppressed


def test_the_first_is_written_and_the_rest_counted() -> None:
    """One line, then one with the number of those left out, when the interval is over."""
    repeats: Repeats[str] = Repeats(interval_s=10)
    assert [repeats.add("no", now) for now in (0.0, 1.0, 9.9)] == [True, False, False]
    assert repeats.waiting
    assert repeats.due(9.99) == []
    assert repeats.due(10.0) == [Suppressed("no", 2, 10.0)]
    assert not repeats.waiting


def test_a_flood_goes_on_with_one_line_an_interval() -> None:
    """After an interval in which lines were left out, the next ones are counted from the first on."""
    repeats: Repeats[str] = Repeats(interval_s=10)
    assert [repeats.add("no", now) for now in (0.0, 1.0)] == [True, False]
    assert repeats.due(10.0) == [Suppressed("no", 1, 10.0)]
    assert not repeats.add("no", 11.0)
    assert repeats.due(20.0) == [Suppressed("no", 1, 10.0)]


def test_after_a_quiet_interval_the_first_is_written_again() -> None:
    """A new flood begins with a full line."""
    repeats: Repeats[str] = Repeats(interval_s=10)
    assert repeats.add("no", 0.0)
    assert repeats.due(10.0) == []
    assert repeats.add("no", 11.0)
    assert repeats.add("no", 21.0), "nothing was left out, and the interval is over"


def test_a_burst_is_written_in_full_and_keys_are_apart() -> None:
    """As many as the burst of each key, whatever happens to another."""
    repeats: Repeats[str] = Repeats(burst=2)
    assert [repeats.add(key, 0.0) for key in "aabab"] == [True, True, True, False, True]
    assert repeats.due(0.0, all_of_them=True) == [Suppressed("a", 1, 0.0)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5), st.booleans())))
def test_every_line_is_written_or_counted_once(steps: list[tuple[str, float, bool]]) -> None:
    """Written lines and numbers of left-out ones add up to all that happened."""
    repeats: Repeats[str] = Repeats(burst=2, interval_s=3)
    now, written, left_out = 0.0, 0, 0
    for key, pause_s, looks in steps:
        now += pause_s
        written += repeats.add(key, now)
        if looks:
            left_out += sum(left.number for left in repeats.due(now))
    left_out += sum(left.number for left in repeats.due(now, all_of_them=True))
    assert written + left_out == len(steps)
