"""Receipts: what they return, in which order, and when."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.delivery import Delivery
from rambla_py.errors import ForkedError, OptionError, PublishError, ReceiptTimeoutError, RejectedError
from rambla_py.outcome import Outcome
from rambla_py.receipt import Home, Receipt


def ended(slot: int = 0, status: str = "ok", **fields: object) -> Delivery:
    delivery = make_delivery(slot=slot, **fields)
    delivery.status = status  # type: ignore[assignment]
    return delivery


@given(st.integers(0, 5), st.integers(1, 3), st.randoms())
def test_results_stand_by_message_and_target(messages: int, targets: int, random: object) -> None:
    """However the deliveries end, results are by message, and within it in the order of the targets."""
    receipt = Receipt._expecting(Home(), messages, targets, many=True)
    slots = list(range(messages * targets))
    random.shuffle(slots)  # type: ignore[attr-defined]
    for slot in slots:
        assert not receipt.done()
        receipt._settle(ended(slot, result=divmod(slot, targets)))
    assert receipt.done()
    expected = [[(message, target) for target in range(targets)] for message in range(messages)]
    assert receipt.result() == (expected if targets > 1 else [row[0] for row in expected])


def test_one_message_to_one_target_is_a_plain_result() -> None:
    """No list where there is one delivery."""
    receipt = Receipt(Home())
    receipt._settle(ended(result="stored"))
    assert receipt.result() == "stored"


def test_a_message_that_fans_out_has_a_list() -> None:
    """One result for each target, in config order."""
    receipt = Receipt._expecting(Home(), 1, 2, many=False)
    receipt._settle(ended(1, result="b"))
    receipt._settle(ended(0, result="a"))
    assert receipt.result() == ["a", "b"]


def test_no_messages_are_done() -> None:
    """``publish_many`` of nothing has an empty result."""
    assert Receipt._expecting(Home(), 0, 2, many=True).result() == []


def test_a_failure_raises_with_all_outcomes() -> None:
    """The error carries every outcome, the good ones too, and names the bad."""
    receipt = Receipt._expecting(Home(), 1, 2, many=False)
    receipt._settle(ended(0))
    receipt._settle(ended(1, "fatal", error=RejectedError("no")))
    with pytest.raises(PublishError, match=r"1 of 2 .* test.demo fatal \(no\)") as caught:
        receipt.result()
    assert [outcome.status for outcome in caught.value.outcomes] == ["ok", "fatal"]


def test_a_fallback_that_succeeded_is_success() -> None:
    """The last of the chain decides, and gives the result."""
    receipt = Receipt(Home())
    receipt._settle(ended(0, "fatal", fallback=Outcome("spare", "test", "ok", result="kept")))
    assert receipt.result() == "kept"


def test_time_runs_out_with_what_is_there() -> None:
    """The error is a TimeoutError too, and holds the partial list."""
    receipt = Receipt._expecting(Home(), 2, 1, many=True)
    receipt._settle(ended(1, result="second"))
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
    assert receipt._waiters is None


def test_callbacks_are_called_once() -> None:
    """At once if it is done, else by the thread that settles the last; never twice."""
    receipt, calls = Receipt(Home()), []
    receipt.add_done_callback(lambda done: calls.append("early"))
    receipt._settle(ended())
    for fn in receipt._take_callbacks():
        fn(receipt)
    receipt.add_done_callback(lambda done: calls.append("late"))
    assert calls == ["early", "late"]


def test_a_receipt_of_the_parent_is_refused_in_a_child() -> None:
    """Only the parent learns the outcome; one that was complete before the fork may be read."""
    home = Home()
    pending, complete = Receipt(home), Receipt(home)
    complete._settle(ended(result=1))
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
    receipt._settle(ended(0, status))
    assert receipt.level == level


# -- waiting without a time -----------------------------------------------------------------------------


def test_a_wait_without_a_time_ends_when_nothing_ends_any_more() -> None:
    """It raises after ``result_timeout_s``, and its error names the setting."""
    receipt = Receipt(Home(result_timeout_s=0.05))
    for wait in (receipt.result, receipt.outcomes, lambda: asyncio.run(receipt.aresult())):
        with pytest.raises(ReceiptTimeoutError, match=r"\[rambla\] result_timeout_s = 0\.05"):
            wait()


def test_a_wait_without_a_time_goes_on_while_deliveries_end() -> None:
    """Each end restarts ``result_timeout_s``, so a long wait succeeds."""
    receipt = Receipt._expecting(Home(result_timeout_s=0.2), 8, 1, many=True)

    def end_slowly() -> None:
        for slot in range(8):
            assert not threading.Event().wait(0.1)
            receipt._settle(ended(slot))

    thread = threading.Thread(target=end_slowly)
    thread.start()
    assert len(receipt.outcomes()) == 8
    thread.join()


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), 2e9, "5", True])
def test_a_time_that_is_none_is_refused(timeout_s: Any) -> None:
    """Every method with a time says what it expects, also when there is nothing to wait for."""
    receipt = Receipt(Home())
    receipt._settle(ended())
    for wait in (receipt.result, receipt.outcomes, lambda one: asyncio.run(receipt.aresult(one))):
        with pytest.raises(OptionError, match=r"timeout_s.*seconds from 0 to 1e9, inf or None"):
            wait(timeout_s)


def test_no_limit_is_a_time() -> None:
    """``None`` and ``inf`` are taken."""
    receipt = Receipt(Home())
    receipt._settle(ended(result="kept"))
    assert receipt.result(None) == receipt.result(float("inf")) == "kept"


def test_a_blocking_wait_in_an_event_loop_warns_and_names_its_twin() -> None:
    """Only where it would wait; a complete receipt answers without a warning."""

    async def main() -> None:
        receipt = Receipt(Home())
        with pytest.warns(RuntimeWarning, match=r"await receipt\.aresult\(\)"), pytest.raises(TimeoutError):
            receipt.result(timeout_s=0.01)
        with pytest.warns(RuntimeWarning, match=r"await receipt\.aoutcomes\(\)"), pytest.raises(TimeoutError):
            receipt.outcomes(timeout_s=0.01)
        with pytest.raises(TimeoutError):
            await receipt.aoutcomes(timeout_s=0.01)
        receipt._settle(ended(result="kept"))
        assert receipt.result() == await receipt == await receipt.aresult(5) == "kept"

    asyncio.run(main())


def test_cancelling_an_await_leaves_no_waiter() -> None:
    """The receipt forgets the task, and completes for the next one."""

    async def main() -> None:
        receipt = Receipt(Home())
        task = asyncio.create_task(receipt.aresult())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert receipt._waiters is None
        receipt._settle(ended(result="kept"))
        assert await receipt == "kept"

    asyncio.run(main())


def test_what_is_public_of_a_receipt() -> None:
    """DESIGN 3, and nothing else: no name without an underscore beside these."""
    public = {name for name in dir(Receipt) if not name.startswith("_")}
    assert public == {"add_done_callback", "aoutcomes", "aresult", "done", "level", "outcomes", "result"}
