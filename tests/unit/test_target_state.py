"""State of a target: causes of several owners, workers, and since when."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rambla_py.runtime.target.state import Cause, TargetState, decide

OWNERS = st.sampled_from(["pool", "supervisor", "backend"])


def make(workers: list[str], *, enabled: bool = True) -> TargetState:
    ticks = itertools.count(100)
    return TargetState(enabled=enabled, workers=lambda: workers, epoch=lambda: float(next(ticks)))


def test_workers_decide_without_a_cause() -> None:
    """One worker that is up makes the target up; without workers it is idle."""
    assert decide([], []) == "idle"
    assert decide([], ["down", "connecting", "up"]) == "up"
    assert decide([], ["down", "connecting"]) == "connecting"
    assert decide([], ["closed"]) == "idle"


def test_a_blocked_backend_shows_only_while_a_worker_is_up() -> None:
    """A connection that is lost meanwhile shows as connecting."""
    assert decide([Cause("blocked", "503")], ["up"]) == "blocked"
    assert decide([Cause("blocked", "503")], ["connecting"]) == "connecting"


def test_one_owner_recovering_leaves_the_cause_of_another() -> None:
    """The pool is back and the supervisor is not: the target stays down, with the supervisor's reason."""
    state = make(["up"])
    state.down("10 deaths", by="pool")
    state.down("no external server", by="supervisor")
    state.recovered(by="pool")
    assert (state.name, state.why) == ("down", "no external server")
    state.recovered(by="supervisor")
    assert (state.name, state.why) == ("up", None)


def test_since_moves_only_when_the_state_changes() -> None:
    """A transition into the state it is in keeps the time of the change."""
    workers: list[str] = []
    state = make(workers)
    assert (state.name, state.since) == ("idle", 100.0)
    workers.append("up")
    state.connected()
    assert (state.name, state.since) == ("up", 101.0)
    state.connected()
    state.recovered(by="pool")
    assert state.since == 101.0


def test_a_stop_wins_over_every_cause_and_a_disabled_target_stays_so() -> None:
    """Closing, then closed; a disabled channel is disabled throughout."""
    state, disabled = make(["up"]), make(["up"], enabled=False)
    for one in (state, disabled):
        one.down("x", by="pool")
        one.closing(at=5.0)
    assert (state.name, state.stop_at, state.closed) == ("closing", 5.0, False)
    state.close()
    assert (state.name, state.closed) == ("closed", True)
    assert disabled.name == "disabled"


@given(st.lists(st.tuples(OWNERS, st.sampled_from(["down", "blocked", "connecting", "recovered"]))))
def test_the_state_depends_on_the_last_report_of_each_owner(steps: list[tuple[str, str]]) -> None:
    """Whatever was reported before, only each owner's last report counts."""
    state, last = make(["up"]), {}
    for owner, step in steps:
        if step == "recovered":
            state.recovered(by=owner)
            last.pop(owner, None)
        else:
            getattr(state, step)("why", by=owner)
            last[owner] = Cause(step, "why")
    assert state.name == decide(list(last.values()), ["up"])
