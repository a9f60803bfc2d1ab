"""Tests of the clock that a test sets."""

from __future__ import annotations

import pytest

from rambla_py.testing import FakeClock


def test_it_stands_still():
    """Time does not pass by itself."""
    clock = FakeClock(5.0)
    assert (clock.now, clock(), clock.now) == (5.0, 5.0, 5.0)


def test_it_moves_only_when_it_is_advanced():
    """``advance`` returns the new time, and moves the clock for everyone who holds it."""
    clock = FakeClock(5.0)
    assert clock.advance(2.5) == 7.5
    assert clock() == 7.5


def test_it_does_not_go_back():
    """It is monotonic."""
    clock = FakeClock()
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-0.1)
