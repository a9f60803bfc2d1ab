"""Contract tests: the connection, or the server, is lost."""

from __future__ import annotations

from collections import Counter

from rambla_py.testing.contract_case import SOME, HandlerCase, comparable
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import STOP_S

__all__ = ["LossTests"]

_DEATH_S = 90.0
"""How long the messages may take over the death of a server that needs its time to start."""


class LossTests(HandlerCase):
    """Of a connection that breaks, a server that stops answering, and one that dies."""

    @only_if("can_cut")
    def test_a_loss_in_mid_batch_loses_no_message(self) -> None:
        """After a cut each message has one outcome, what is ok has arrived, and duplicates share the id."""
        with self.trial() as trial:
            outcomes, ends = self.publish_over_a_cut(trial)
            assert Counter(outcome.status for outcome in outcomes) == {"ok": SOME}
            assert set(ends.values()) == {1}
            assert len(ends) == SOME
            if self.stores:
                self.check_nothing_missing(outcomes)

    @only_if("can_cut")
    def test_a_loss_is_reported_where_unknown_is_not_retried(self) -> None:
        """With ``on_unknown = "report"`` nothing comes twice, and what is ok has arrived."""
        with self.trial(on_unknown="report") as trial:
            outcomes, ends = self.publish_over_a_cut(trial)
            assert {outcome.status for outcome in outcomes} <= {"ok", "unknown"}
            assert set(ends.values()) == {1}
            assert len(ends) == SOME
            if self.stores:
                self.check_nothing_missing([outcome for outcome in outcomes if outcome.status == "ok"])
                ways = Counter(comparable(arrival.payload) for arrival in self.received())
                assert max(ways.values()) == 1, f"came twice: {[way for way in ways if ways[way] > 1][:3]}"

    @only_if("can_cut")
    def test_messages_flow_again_after_a_loss(self) -> None:
        """Once the connection is back, messages are delivered at their first attempt."""
        with self.trial() as trial:
            self.publish_over_a_cut(trial)
            outcome = trial.publish(self.payload(SOME + 1))
            assert (outcome.status, outcome.attempts) == ("ok", 1)
            assert trial.status().state == "up"

    @only_if("can_die")
    def test_a_server_that_dies_in_mid_batch_loses_no_message(self) -> None:
        """Over the server's death each message has one outcome, and nothing that is confirmed is missing."""
        with self.trial() as trial:
            trial.patience_s = _DEATH_S
            outcomes, ends = self.publish_over(trial, self.die, self.deaths)
            assert Counter(outcome.status for outcome in outcomes) == {"ok": SOME}
            assert set(ends.values()) == {1}
            assert len(ends) == SOME
            if self.stores:
                self.check_nothing_missing(outcomes)

    @only_if("can_silence")
    def test_a_server_that_falls_silent_holds_nothing_up(self) -> None:
        """What a server takes and never answers is unknown, or expires; the stop is quick."""
        options = {"expires_s": 1.5}
        channel = {"attempt_timeout_s": 1.0, "on_unknown": "report", "options": options}
        with self.trial(self.impatient(), **channel) as trial:
            assert trial.publish(self.payload(SOME), expires_s=None).status == "ok"
            self.silence()
            outcomes = trial.publish_many(self.payloads(10))
            assert {outcome.status for outcome in outcomes} <= {"unknown", "expired"}, f"{outcomes!r}"
            assert trial.stop(timeout_s=0.2) < STOP_S
