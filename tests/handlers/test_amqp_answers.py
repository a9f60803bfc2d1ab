"""How deliveries are settled by what the broker says: confirms, returns, closed channels."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from amqp_deliveries import Notes, amqp_delivery, amqp_options
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import ChannelClosedByBroker, StreamLostError

from rambla_py.delivery import Delivery
from rambla_py.errors import RejectedError, UnknownOutcomeError, UnroutableError
from rambla_py.handlers.amqp.answers import Answers
from rambla_py.handlers.amqp.ledger import ConfirmLedger
from rambla_py.message import Ok


def in_flight(*deliveries: Delivery) -> Answers:
    answers = Answers()
    answers.await_confirm(deliveries)
    return answers


def nack(tag: int, *, multiple: bool = False) -> Any:
    return frame.Method(1, spec.Basic.Nack(tag, multiple, False))


def returned(answers: Answers, delivery: Delivery, *, body: bytes | None = None) -> None:
    options = delivery.options
    told = spec.Basic.Return(312, "NO_ROUTE", options.exchange, options.routing_key)
    properties = spec.BasicProperties(message_id=options.properties.message_id or delivery.id)
    answers.on_return(None, told, properties, delivery.body() if body is None else body)


def kinds(notes: Notes, *deliveries: Delivery) -> list[type | None]:
    return [type(notes.answers[one.id]) if one.id in notes.answers else None for one in deliveries]


def test_an_ack_settles_its_message_alone() -> None:
    """A single ack is ok for one delivery tag."""
    notes = Notes()
    one, two = amqp_delivery(notes=notes), amqp_delivery(notes=notes)
    in_flight(one, two).on_ack(2, False)
    assert kinds(notes, one, two) == [None, Ok]


def test_an_ack_of_many_settles_all_up_to_it() -> None:
    """With ``multiple`` every earlier message is ok too."""
    notes = Notes()
    three = [amqp_delivery(notes=notes) for _ in range(3)]
    in_flight(*three).on_ack(2, True)
    assert kinds(notes, *three) == [Ok, Ok, None]


def test_a_nack_is_a_rejection_that_may_be_retried() -> None:
    """The broker refused the message; another attempt may help."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_confirm(nack(1))
    answer = notes.answers[one.id]
    assert (type(answer), answer.retryable) == (RejectedError, True)


def test_an_ack_on_pikas_road_counts_the_same() -> None:
    """An ack that pika read is ok too."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_confirm(frame.Method(1, spec.Basic.Ack(1, False)))
    assert kinds(notes, one) == [Ok]


def test_a_returned_message_failed_although_it_is_acked() -> None:
    """The broker acks what it returned; the failure stands, and says where the message was sent."""
    notes = Notes()
    one, two = (amqp_delivery(notes=notes, options=amqp_options(routing_key="nowhere")) for _ in range(2))
    answers = in_flight(one, two)
    returned(answers, two)
    answers.on_ack(2, True)
    assert kinds(notes, one, two) == [Ok, UnroutableError]
    assert "312 NO_ROUTE: exchange '', routing key 'nowhere'" in str(notes.answers[two.id])


def test_returned_messages_of_one_id_are_told_apart_by_where_they_went() -> None:
    """Two messages with the same message_id: the one with the returned routing key failed."""
    notes = Notes()
    one, two = (
        amqp_delivery(notes=notes, options=amqp_options(routing_key=key, properties={"message_id": "same"}))
        for key in ("here", "nowhere")
    )
    answers = in_flight(one, two)
    returned(answers, two)
    answers.on_ack(2, True)
    assert kinds(notes, one, two) == [Ok, UnroutableError]


def test_a_return_that_fits_nothing_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A message that was returned without confirms, or twice, is told in the log."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    answers = in_flight(one)
    with caplog.at_level(logging.WARNING, "rambla_py.amqp"):
        returned(answers, one, body=b"another")
    assert notes.answers == {}
    assert "312 NO_ROUTE" in caplog.text


def test_a_flood_of_returns_makes_no_flood_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand returned messages are told four times: the 1st, 10th, 100th and 1000th."""
    answers, one = Answers(), amqp_delivery()
    with caplog.at_level(logging.WARNING, "rambla_py.amqp"):
        for _ in range(1_000):
            returned(answers, one)
    assert len(caplog.records) == 4


def test_a_missing_exchange_fails_what_was_sent_to_it() -> None:
    """The broker names the exchange: those messages failed, of the others nothing is known."""
    notes = Notes()
    good = amqp_delivery(notes=notes, options=amqp_options(exchange="there"))
    bad = amqp_delivery(notes=notes, options=amqp_options(exchange="nope"))
    answers = in_flight(good, bad)
    answers.on_channel_closed(ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'nope' in vhost '/'"))
    assert kinds(notes, good, bad) == [None, UnroutableError]
    answers.on_lost(StreamLostError("gone"))
    assert kinds(notes, good, bad) == [UnknownOutcomeError, UnroutableError]


def test_a_message_alone_is_the_one_that_closed_the_channel() -> None:
    """When one message only is in flight, the reason is its error."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_channel_closed(ChannelClosedByBroker(406, "PRECONDITION_FAILED - user_id"))
    assert kinds(notes, one) == [RejectedError]
    assert "406 PRECONDITION_FAILED - user_id" in str(notes.answers[one.id])


def test_among_many_the_one_that_closed_the_channel_is_not_known() -> None:
    """When several are in flight and the reason names none, none of them is blamed."""
    notes = Notes()
    two = [amqp_delivery(notes=notes) for _ in range(2)]
    in_flight(*two).on_channel_closed(ChannelClosedByBroker(406, "PRECONDITION_FAILED - user_id"))
    assert kinds(notes, *two) == [None, None]


def test_a_lost_connection_blames_nobody() -> None:
    """A loss that is no refusal by the broker settles nothing as failed."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_channel_closed(StreamLostError("gone"))
    assert kinds(notes, one) == [None]


def test_without_confirms_a_message_is_ok_once_the_socket_took_it() -> None:
    """Not a byte earlier; batches in their order."""
    notes = Notes()
    one, two = amqp_delivery(notes=notes), amqp_delivery(notes=notes)
    answers = Answers()
    answers.await_write([one], 100)
    answers.await_write([two], 200)
    answers.on_written(199)
    assert kinds(notes, one, two) == [Ok, None]
    assert answers.unwritten


def test_without_confirms_what_was_not_written_is_unknown_after_a_loss() -> None:
    """Part of it may have left."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    answers = Answers()
    answers.await_write([one], 100)
    answers.on_lost(StreamLostError("gone"))
    assert kinds(notes, one) == [UnknownOutcomeError]
    assert not answers.unwritten


@given(
    steps=st.lists(
        st.one_of(
            st.integers(0, 5).map(lambda count: ("add", count)),
            st.tuples(st.sampled_from(["one", "many"]), st.integers(0, 40)),
            st.integers(0, 40).map(lambda item: ("find", item)),
        ),
        max_size=40,
    )
)
def test_the_ledger_agrees_with_a_plain_dict(steps: list[tuple[str, int]]) -> None:
    """Whatever is published, acked, and found in between, each item comes out once, and by its tag."""
    ledger: ConfirmLedger[int] = ConfirmLedger()
    model: dict[int, int] = {}
    published = 0
    for step, number in steps:
        if step == "add":
            items = range(published + 1, published + 1 + number)
            ledger.add(items)
            model |= {item: item for item in items}
            published += number
        elif step == "find":
            assert ledger.find(lambda item: item == number) == model.pop(number, None)  # noqa: B023
        elif step == "one":
            wanted = [model.pop(number)] if number in model else []
            assert ledger.take(number, multiple=False) == wanted
        else:
            tags = [tag for tag in sorted(model) if number == 0 or tag <= number]
            assert ledger.take(number, multiple=True) == [model.pop(tag) for tag in tags]
        assert list(ledger) == [model[tag] for tag in sorted(model)]
    assert ledger.take_all() == [model[tag] for tag in sorted(model)]
    assert len(ledger) == 0
