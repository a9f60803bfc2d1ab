"""The decisions of the policy, which are pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.errors import ExpiredError, PermanentError, RejectedError
from rambla_py.message import RETRY, STOP, Retry
from rambla_py.policy import (
    Again,
    Backoff,
    End,
    Policy,
    RateLimit,
    after_failure,
    backoff_delay,
    is_retryable,
    restarts_exceeded,
    worker_of,
)

backoffs = st.builds(
    Backoff,
    initial_s=st.floats(0.001, 10),
    multiplier=st.floats(1, 10),
    max_s=st.floats(0.001, 600),
)


def decide(error: BaseException | None = None, **given: object) -> Again | End:
    facts: dict[str, object] = {
        "retryable": True,
        "verdict": None,
        "policy": Policy(),
        "attempts": 1,
        "failures": 1,
        "left": 5,
        "time_left_s": None,
        "uniform": 1.0,
    }
    return after_failure(error or RejectedError("no"), **{**facts, **given})  # type: ignore[arg-type]


@given(backoffs, st.integers(1, 10_000), st.floats(0, 1))
def test_a_delay_lies_between_zero_and_the_bound(backoff: Backoff, failures: int, uniform: float) -> None:
    """Whatever the number of failures, the wait is neither negative nor over ``max_s``."""
    assert 0 <= backoff_delay(backoff, failures, uniform) <= backoff.max_s


@given(backoffs, st.integers(1, 100))
def test_the_ceiling_never_shrinks(backoff: Backoff, failures: int) -> None:
    """One more failure never makes the longest possible wait shorter."""
    assert backoff_delay(backoff, failures, 1.0) <= backoff_delay(backoff, failures + 1, 1.0)


def test_the_ceiling_doubles() -> None:
    """With the defaults the longest waits are 0.5, 1, 2, 4 ... seconds."""
    assert [backoff_delay(Backoff(), failures, 1.0) for failures in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]


def test_retries_run_out() -> None:
    """With none left the delivery is fatal, with the error of the last attempt."""
    error = RejectedError("no")
    assert decide(error, left=0) == End("fatal", error)


@given(st.integers(1, 100))
def test_each_retry_uses_one_up(left: int) -> None:
    """A retry leaves one less."""
    decision = decide(left=left)
    assert isinstance(decision, Again)
    assert decision.left == left - 1


def test_an_error_that_no_retry_can_mend_is_fatal_at_once() -> None:
    """Not retryable: fatal, however many retries are left."""
    assert decide(retryable=False).status == "fatal"  # type: ignore[union-attr]


def test_retry_overrides_an_error_that_is_not_retryable() -> None:
    """``RETRY`` tries again while any are left, and only then."""
    assert isinstance(decide(retryable=False, verdict=RETRY), Again)
    assert isinstance(decide(retryable=False, verdict=RETRY, left=0), End)


def test_stop_ends_as_failed() -> None:
    """``STOP`` ends it, retries or not."""
    assert decide(verdict=STOP).status == "failed"  # type: ignore[union-attr]


def test_a_verdict_sets_the_wait_and_what_is_left() -> None:
    """``Retry(delay_s, retries)`` counts from now, this retry included."""
    assert decide(verdict=Retry(delay_s=7.0, retries=3), left=0) == Again(7.0, 2)


def test_a_retry_that_would_come_too_late_expires_now() -> None:
    """The delivery expires at once, with the last error as the cause."""
    error = RejectedError("no")
    decision = decide(error, time_left_s=0.4)
    assert isinstance(decision, End)
    assert decision.status == "expired"
    assert isinstance(decision.error, ExpiredError)
    assert decision.error.__cause__ is error


def test_an_error_may_name_the_wait() -> None:
    """Where the backend said when to come back, that is the wait; a verdict's own goes before it."""
    error = RejectedError("busy")
    error.retry_after_s = 7.0
    assert decide(error) == Again(7.0, 4)
    assert decide(error, verdict=Retry(retries=1)) == Again(7.0, 0)
    assert decide(error, verdict=Retry(delay_s=2.0)) == Again(2.0, 4)
    expired = decide(error, time_left_s=6.0)
    assert isinstance(expired, End)
    assert expired.status == "expired"


def test_a_strangers_error_is_given_another_chance() -> None:
    """Only our own errors know that no retry can mend them."""
    assert is_retryable(OSError())
    assert is_retryable(SystemExit())
    assert not is_retryable(PermanentError())


@given(st.text(min_size=1), st.integers(1, 64))
def test_a_key_belongs_to_one_worker(key: str, workers: int) -> None:
    """The same key goes to the same worker, one that there is."""
    assert worker_of(key, workers) == worker_of(key, workers)
    assert 0 <= worker_of(key, workers) < workers


@given(st.text(), st.integers(1, 64))
def test_a_key_moves_to_the_new_worker_or_not_at_all(key: str, workers: int) -> None:
    """When a worker is added, keys move to it only."""
    before, after = worker_of(key, workers), worker_of(key, workers + 1)
    assert after in (before, workers)


def test_keys_spread_over_the_workers() -> None:
    """No worker of four gets less than half, or more than double, of its share of 4,000 keys."""
    counts = [0] * 4
    for number in range(4_000):
        counts[worker_of(f"customer-{number}", 4)] += 1
    assert min(counts) > 500
    assert max(counts) < 2_000


@pytest.mark.parametrize(("times", "exceeded"), [([9.0, 9.5, 10.0], True), ([0.0, 9.5, 10.0], False)])
def test_restarts_count_within_the_window(times: list[float], exceeded: bool) -> None:
    """More than ``max_restarts`` within the last ``max_seconds`` is too many; older ones are forgotten."""
    assert restarts_exceeded(times, 10.0, max_restarts=2, max_seconds=5.0) is exceeded


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), max_size=50), st.floats(1, 1000))
def test_a_rate_is_never_exceeded(steps: list[tuple[float, int]], per_s: float) -> None:
    """Over any time from the start, no more is granted than the burst of a second and the rate."""
    limit, now, granted = RateLimit(per_s), 0.0, 0
    for wait_s, wanted in steps:
        now += wait_s
        granted += limit.grant(wanted, now)
        assert granted <= per_s + per_s * now + 1e-6


def test_a_rate_says_how_long_to_wait() -> None:
    """With the burst used up, the wait is until the next token, and then there is one."""
    limit = RateLimit(10.0)
    assert limit.grant(100, 0.0) == 10
    assert limit.wait_s(0.0) == pytest.approx(0.1)
    assert limit.grant(100, 0.1001) == 1
