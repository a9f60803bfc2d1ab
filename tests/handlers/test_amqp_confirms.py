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
from rambla_py.errors import (
    AccessError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
    UnroutableError,
)
from rambla_py.handlers.amqp.confirms import ConfirmLedger, Confirms
from rambla_py.handlers.amqp.encode import LARGE_BYTES, Batch
from rambla_py.handlers.amqp.settings import default_key
from rambla_py.message import Ok


def in_flight(*deliveries: Delivery) -> Confirms:
    confirms = Confirms()
    confirms.await_confirm(batch(*deliveries))
    return confirms


def batch(*deliveries: Delivery, largest: int = 0, repeated: bool = False) -> Batch:
    return Batch([], deliveries, largest, repeated)


def nack(tag: int, *, multiple: bool = False) -> Any:
    return frame.Method(1, spec.Basic.Nack(tag, multiple, False))


def returned(confirms: Confirms, delivery: Delivery, *, body: bytes | None = None) -> None:
    options = delivery.options
    key = default_key(options, delivery.channel)
    reported = spec.Basic.Return(312, "NO_ROUTE", options.exchange, key)
    properties = spec.BasicProperties(message_id=options.properties.message_id or delivery.id)
    confirms.on_return(None, reported, properties, delivery.body() if body is None else body)


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


def test_an_ack_that_pika_parsed_counts_the_same() -> None:
    """An ack that pika read is ok too."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_confirm(frame.Method(1, spec.Basic.Ack(1, False)))
    assert kinds(notes, one) == [Ok]


def test_a_returned_message_failed_although_it_is_acked() -> None:
    """The broker acks what it returned; the failure stands, and says where the message was sent."""
    notes = Notes()
    one, two = (amqp_delivery(notes=notes, options=amqp_options(routing_key="nowhere")) for _ in range(2))
    confirms = in_flight(one, two)
    returned(confirms, two)
    confirms.on_ack(2, True)
    assert kinds(notes, one, two) == [Ok, UnroutableError]
    assert "312 NO_ROUTE: exchange '', routing key 'nowhere'" in str(notes.answers[two.id])


def test_returned_messages_of_one_id_are_distinguished_by_where_they_went() -> None:
    """Two messages with the same message_id: the one with the returned routing key failed."""
    notes = Notes()
    one, two = (
        amqp_delivery(notes=notes, options=amqp_options(routing_key=key, properties={"message_id": "same"}))
        for key in ("here", "nowhere")
    )
    confirms = in_flight(one, two)
    returned(confirms, two)
    confirms.on_ack(2, True)
    assert kinds(notes, one, two) == [Ok, UnroutableError]


def test_a_return_that_fits_nothing_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A message that was returned without confirms, or twice, is logged."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    confirms = in_flight(one)
    with caplog.at_level(logging.WARNING, "rambla_py.handlers.amqp"):
        returned(confirms, one, body=b"another")
    assert notes.answers == {}
    assert "312 NO_ROUTE" in caplog.text


def test_a_flood_of_returns_makes_no_flood_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The 1st, 10th, 100th and so on are logged, and at the end of the connection how many there were."""
    confirms, one = Confirms(), amqp_delivery()
    with caplog.at_level(logging.WARNING, "rambla_py.handlers.amqp"):
        for _ in range(1_234):
            returned(confirms, one)
        assert len(caplog.records) == 4
        confirms.on_lost(None)
    assert caplog.messages[4:] == ["1234 messages that were counted as ok were returned by the broker"]


def test_a_missing_exchange_fails_what_was_sent_to_it() -> None:
    """The broker names the exchange: messages for it wait for an operator, the others are unknown."""
    notes = Notes()
    good = amqp_delivery(notes=notes, options=amqp_options(exchange="there"))
    bad = amqp_delivery(notes=notes, options=amqp_options(exchange="nope"))
    confirms = in_flight(good, bad)
    confirms.on_channel_closed(ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'nope' in vhost '/'"))
    assert kinds(notes, good, bad) == [None, UnavailableError]
    assert notes.answers[bad.id].scope == "exchange 'nope'"
    confirms.on_lost(StreamLostError("gone"))
    assert kinds(notes, good, bad) == [UnknownOutcomeError, UnavailableError]
    assert "create what is missing" in str(notes.answers[bad.id])


def test_the_exchange_of_the_channel_concerns_all() -> None:
    """Nothing of the channel can be sent: an operator must act."""
    notes = Notes()
    options = amqp_options(exchange="nope")
    bad = amqp_delivery(notes=notes, options=options)
    confirms = Confirms(options)
    confirms.await_confirm(batch(bad, largest=1))
    confirms.on_channel_closed(ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'nope' in vhost '/'"))
    assert kinds(notes, bad) == [AccessError]


def test_a_refused_exchange_fails_what_was_sent_to_it() -> None:
    """The reply names the default exchange amq.default, and the routing key where a topic was refused."""
    notes = Notes()
    plain = amqp_delivery(notes=notes)
    topics = [
        amqp_delivery(notes=notes, options=amqp_options(exchange="t", routing_key=key)) for key in ("a", "b")
    ]
    confirms = in_flight(plain, *topics)
    reply = "ACCESS_REFUSED - access to topic 'b' in exchange 't' in vhost '/' refused for user 'shop'"
    confirms.on_channel_closed(ChannelClosedByBroker(403, reply))
    assert kinds(notes, plain, *topics) == [None, None, UnavailableError]
    assert notes.answers[topics[1].id].scope == "exchange 't', routing key 'b'"
    reply = "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'shop'"
    confirms.on_channel_closed(ChannelClosedByBroker(403, reply))
    assert kinds(notes, plain, *topics) == [AccessError, None, UnavailableError]


def test_a_refused_user_id_fails_the_messages_that_have_it() -> None:
    """The reply quotes the user id; no retry can mend those messages."""
    notes = Notes()
    good = amqp_delivery(notes=notes)
    bad = amqp_delivery(notes=notes, options=amqp_options(properties={"user_id": "somebody"}))
    reply = "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'"
    in_flight(good, bad).on_channel_closed(ChannelClosedByBroker(406, reply))
    assert kinds(notes, good, bad) == [None, PermanentError]


def test_what_came_after_the_one_that_closed_the_channel_was_not_taken() -> None:
    """The broker ignores it, and it is written again; what came before may have arrived, and goes alone next."""
    notes = Notes()
    before, after = amqp_delivery(notes=notes), amqp_delivery(notes=notes)
    bad = [amqp_delivery(notes=notes, options=amqp_options(properties={"user_id": "me"})) for _ in range(2)]
    reply = "PRECONDITION_FAILED - user_id property set to 'me' but authenticated user was 'guest'"
    confirms = in_flight(before, bad[0], after, bad[1])
    closed = confirms.on_channel_closed(ChannelClosedByBroker(406, reply))
    assert kinds(notes, *bad, after, before) == [PermanentError, PermanentError, None, None]
    assert (closed.named, list(closed.ignored)) == (True, [after])
    confirms.restart(StreamLostError("closed"), closed.ignored)
    assert kinds(notes, before, after) == [UnknownOutcomeError, None]
    assert (notes.answers[before.id].connection_lost, notes.answers[before.id].together) == (False, True)
    confirms.await_confirm(batch(after))
    confirms.on_ack(1, False)  # the new channel counts from 1
    assert kinds(notes, after) == [Ok]


def test_nothing_new_follows_what_may_have_arrived_until_it_is_confirmed() -> None:
    """If the broker closed the channel for what follows, the others would come a third time."""
    again = [batch(amqp_delivery(), repeated=True) for _ in range(2)]
    confirms = in_flight(amqp_delivery())
    assert confirms.may_write(again[0])
    confirms.await_confirm(again[0])
    assert (confirms.may_write(again[1]), confirms.may_write(batch())) == (True, False)
    confirms.await_confirm(again[1])
    confirms.on_ack(2, True)
    assert not confirms.may_write(batch())
    confirms.on_ack(3, False)
    assert confirms.may_write(batch())
    confirms.await_confirm(batch(amqp_delivery()))
    assert confirms.may_write(batch())


@pytest.mark.parametrize("configured", ["configured ", ""])
def test_a_body_over_the_brokers_limit_is_fatal(configured: str) -> None:
    """The reply names the limit: every body over it is fatal, and the limit is returned."""
    notes = Notes()
    good, bad = amqp_delivery(b"x" * 8, notes=notes), amqp_delivery(b"x" * 9, notes=notes)
    reply = f"PRECONDITION_FAILED - message size 9 is larger than {configured}max size 8"
    closed = in_flight(good, bad).on_channel_closed(ChannelClosedByBroker(406, reply))
    assert (kinds(notes, good, bad), closed.limit) == ([None, PayloadTooLargeError], 8)
    assert str(notes.answers[bad.id]) == "the payload has 9 bytes; the broker's max_message_size is 8"


def test_a_message_alone_is_the_one_that_closed_the_channel() -> None:
    """When one message only is in flight, the reason is its error, and final for a 406."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_channel_closed(ChannelClosedByBroker(406, "PRECONDITION_FAILED - unforeseen"))
    assert kinds(notes, one) == [PermanentError]
    assert "406 PRECONDITION_FAILED - unforeseen" in str(notes.answers[one.id])


def test_among_many_the_one_that_closed_the_channel_is_not_known() -> None:
    """When several are in flight and the reply identifies none, none of them fails."""
    notes = Notes()
    two = [amqp_delivery(notes=notes) for _ in range(2)]
    closed = in_flight(*two).on_channel_closed(ChannelClosedByBroker(406, "PRECONDITION_FAILED - unforeseen"))
    assert kinds(notes, *two) == [None, None]
    assert not closed.named


def test_a_large_body_is_written_alone_until_its_size_is_confirmed() -> None:
    """Nothing else is unconfirmed with it; afterwards bodies up to its size go with others."""
    one, large, other = (amqp_delivery() for _ in range(3))
    size = LARGE_BYTES + 1
    confirms = in_flight(one)
    assert (confirms.may_write(batch(largest=LARGE_BYTES)), confirms.may_write(batch(largest=size))) == (
        True,
        False,
    )
    confirms.on_ack(1, False)
    assert confirms.may_write(batch(largest=size))
    confirms.await_confirm(batch(large, largest=size))
    assert (confirms.may_write(batch()), confirms.may_write(batch(largest=size))) == (False, False)
    confirms.on_ack(2, False)
    confirms.await_confirm(batch(other))
    assert (confirms.may_write(batch(largest=size)), confirms.may_write(batch(largest=size + 1))) == (
        True,
        False,
    )


def test_a_nack_and_a_return_prove_a_size_too() -> None:
    """The broker checks the size before it routes the message."""
    for turn in range(2):
        large, confirms, size = amqp_delivery(), Confirms(), LARGE_BYTES + 1
        confirms.await_confirm(batch(large, largest=size))
        if turn:
            returned(confirms, large)
        else:
            confirms.on_confirm(nack(1))
        confirms.await_confirm(batch(amqp_delivery()))
        assert confirms.may_write(batch(largest=size))


def test_a_lost_connection_fails_nothing() -> None:
    """A loss that is no refusal by the broker settles nothing as failed."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    in_flight(one).on_channel_closed(StreamLostError("gone"))
    assert kinds(notes, one) == [None]


def test_without_confirms_a_message_is_ok_once_the_socket_took_it() -> None:
    """Not a byte earlier; batches in their order."""
    notes = Notes()
    one, two = amqp_delivery(notes=notes), amqp_delivery(notes=notes)
    confirms = Confirms()
    confirms.await_write([one], 100)
    confirms.await_write([two], 200)
    confirms.on_written(199)
    assert kinds(notes, one, two) == [Ok, None]
    assert confirms.unwritten


def test_without_confirms_what_was_not_written_is_unknown_after_a_loss() -> None:
    """Part of it may have left."""
    notes = Notes()
    one = amqp_delivery(notes=notes)
    confirms = Confirms()
    confirms.await_write([one], 100)
    confirms.on_lost(StreamLostError("gone"))
    assert kinds(notes, one) == [UnknownOutcomeError]
    assert not confirms.unwritten


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
