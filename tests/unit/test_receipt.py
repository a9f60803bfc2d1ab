"""Receipts: what they return, in which order, and when."""

from __future__ import annotations

import pytest
from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.delivery import Delivery
from rambla_py.errors import ForkedError, PublishError, ReceiptTimeoutError, RejectedError
from rambla_py.outcome import Outcome
from rambla_py.receipt import Home, Receipt


def ended(slot: int = 0, status: str = "ok", **fields: object) -> Delivery:
    delivery = make_delivery(slot=slot, **fields)
    delivery.status = status  # type: ignore[assignment]
    return delivery


@given(st.integers(0, 5), st.integers(1, 3), st.randoms())
def test_results_stand_by_message_and_target(messages: int, targets: int, random: object) -> None:
    """However the deliveries end, results are by message, and within it in the order of the targets."""
    receipt = Receipt.expecting(Home(), messages, targets, many=True)
    slots = list(range(messages * targets))
    random.shuffle(slots)  # type: ignore[attr-defined]
    for slot in slots:
        assert not receipt.done()
        receipt.settle(ended(slot, result=divmod(slot, targets)))
    assert receipt.done()
    expected = [[(message, target) for target in range(targets)] for message in range(messages)]
    assert receipt.result() == (expected if targets > 1 else [row[0] for row in expected])


def test_one_message_to_one_target_is_a_plain_result() -> None:
    """No list where there is one delivery."""
    receipt = Receipt(Home())
    receipt.settle(ended(result="stored"))
    assert receipt.result() == "stored"


def test_a_message_that_fans_out_has_a_list() -> None:
    """One result for each target, in config order."""
    receipt = Receipt.expecting(Home(), 1, 2, many=False)
    receipt.settle(ended(1, result="b"))
    receipt.settle(ended(0, result="a"))
    assert receipt.result() == ["a", "b"]


def test_no_messages_are_done() -> None:
    """``publish_many`` of nothing has an empty result."""
    assert Receipt.expecting(Home(), 0, 2, many=True).result() == []


def test_a_failure_raises_with_all_outcomes() -> None:
    """The error carries every outcome, the good ones too, and names the bad."""
    receipt = Receipt.expecting(Home(), 1, 2, many=False)
    receipt.settle(ended(0))
    receipt.settle(ended(1, "fatal", error=RejectedError("no")))
    with pytest.raises(PublishError, match=r"1 of 2 .* test.demo fatal \(no\)") as caught:
        receipt.result()
    assert [outcome.status for outcome in caught.value.outcomes] == ["ok", "fatal"]


def test_a_fallback_that_succeeded_is_success() -> None:
    """The last of the chain decides, and gives the result."""
    receipt = Receipt(Home())
    receipt.settle(ended(0, "fatal", fallback=Outcome("spare", "test", "ok", result="kept")))
    assert receipt.result() == "kept"


def test_time_runs_out_with_what_is_there() -> None:
    """The error is a TimeoutError too, and holds the partial list."""
    receipt = Receipt.expecting(Home(), 2, 1, many=True)
    receipt.settle(ended(1, result="second"))
    with pytest.raises(ReceiptTimeoutError, match="1 of 2") as caught:
        receipt.result(timeout_s=0)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.results == [None, "second"]


def test_a_wait_that_ran_out_leaves_nothing_behind() -> None:
    """Waiting again and again does not pile up waiters."""
    receipt = Receipt(Home())
    for _ in range(3):
        with pytest.raises(ReceiptTimeoutError):
            receipt.result(timeout_s=0)
    assert receipt.waiters is None


def test_callbacks_are_called_once() -> None:
    """At once when it is done, else by who settles the last; never twice."""
    receipt, calls = Receipt(Home()), []
    receipt.add_done_callback(lambda done: calls.append("early"))
    receipt.settle(ended())
    for fn in receipt.take_callbacks():
        fn(receipt)
    receipt.add_done_callback(lambda done: calls.append("late"))
    assert calls == ["early", "late"]


def test_a_receipt_of_the_parent_is_refused_in_a_child() -> None:
    """Only the parent learns the outcome; one that was complete before the fork may be read."""
    home = Home()
    pending, complete = Receipt(home), Receipt(home)
    complete.settle(ended(result=1))
    home.forked = True
    with pytest.raises(ForkedError):
        pending.result()
    assert complete.result() == 1


@pytest.mark.parametrize(
    ("status", "level"), [("ok", "confirmed"), ("unknown", "unknown"), ("fatal", "accepted")]
)
def test_the_level_says_how_far_it_came(status: str, level: str) -> None:
    """Accepted until done; confirmed when all ended as ok; unknown when one is unknown."""
    receipt = Receipt(Home())
    assert receipt.level == "accepted"
    receipt.settle(ended(0, status))
    assert receipt.level == level
