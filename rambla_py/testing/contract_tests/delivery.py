"""Contract tests: each message arrives once and has one outcome."""

from __future__ import annotations

from collections import Counter

from rambla_py.message import Message
from rambla_py.testing.contract_case import MANY, SOME, HandlerCase
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import CHANNEL, TIMEOUT_S, numbered, until

__all__ = ["DeliveryTests"]


class DeliveryTests(HandlerCase):
    """Of messages without faults: one, a thousand, by two workers, by key."""

    def test_one_message_is_delivered(self) -> None:
        """One message ends as ok at its first attempt."""
        with self.trial() as trial:
            outcome = trial.publish(self.payload(1))
            assert (outcome.status, outcome.attempts, outcome.error) == ("ok", 1, None)

    @only_if("stores")
    def test_a_delivered_message_has_arrived(self) -> None:
        """A message that ended as ok is at the receiver, once, with its payload and its id."""
        with self.trial() as trial:
            trial.publish(Message(self.payload(1), id="the-id"))
            self.check_arrivals([(self.payload(1), "the-id")])

    def test_the_result_is_the_handlers(self) -> None:
        """``result()`` gives what the handler returned, and the outcome holds the same."""
        with self.trial() as trial:
            receipt = trial.app.publish(CHANNEL, self.payload(1))
            result = receipt.result(timeout_s=TIMEOUT_S)
            assert self.is_result(result), f"is_result() does not know {result!r}"
            assert receipt.outcomes()[0].result == result

    def test_a_thousand_messages_have_an_outcome_each_in_order(self) -> None:
        """``publish_many`` gives one outcome for each message, in the order in which they were handed in."""
        with self.trial() as trial:
            outcomes = trial.publish_many(numbered(self.payloads(), "m"))
            assert Counter(outcome.status for outcome in outcomes) == {"ok": MANY}
            strayed = [at for at, outcome in enumerate(outcomes) if outcome.message_id != f"m-{at}"]
            assert not strayed, f"{len(strayed)} out of their place: {strayed[:5]}"

    @only_if("stores")
    def test_a_thousand_messages_arrive_once(self) -> None:
        """Without faults nothing is lost and nothing comes twice."""
        with self.trial() as trial:
            trial.publish_many(numbered(self.payloads(), "m"))
            self.check_arrivals([(self.payload(at), f"m-{at}") for at in range(MANY)])

    def test_messages_published_one_by_one_are_delivered(self) -> None:
        """Many calls of ``publish`` end as ok, each with its own receipt."""
        with self.trial() as trial:
            receipts = [trial.app.publish(CHANNEL, payload) for payload in self.payloads(SOME)]
            outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
            assert Counter(outcome.status for outcome in outcomes) == {"ok": SOME}
            assert len({outcome.message_id for outcome in outcomes}) == SOME

    def test_two_workers_share_the_messages(self) -> None:
        """Two workers, each on a connection of its own, deliver each message once."""
        with self.trial(count=2, lazy=False, batch_size=20) as trial:
            assert until(lambda: trial.status().workers == ["up", "up"])
            outcomes = trial.publish_many(numbered(self.payloads(SOME), "m"))
            assert Counter(outcome.status for outcome in outcomes) == {"ok": SOME}
            if self.stores:
                self.check_arrivals([(self.payload(at), f"m-{at}") for at in range(SOME)])

    def test_keyed_messages_are_delivered(self) -> None:
        """Messages that share keys end as ok, one after the other within a key."""
        with self.trial() as trial:
            messages = [Message(self.payload(at), id=f"m-{at}", key=f"k-{at % 7}") for at in range(50)]
            outcomes = trial.publish_many(messages)
            assert Counter(outcome.status for outcome in outcomes) == {"ok": 50}
