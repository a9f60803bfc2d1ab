"""The private parts of pika that the amqp handler uses; a pika without them fails here first, by name."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pika
import pytest
from amqp_wire import Wire, method
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.adapters.base_connection import BaseConnection
from pika.connection import Connection
from pika.exceptions import InvalidFrameError

_tags = st.integers(1, 2**64 - 1)
_acks = st.builds(spec.Basic.Ack, _tags, st.booleans())
_nacks = st.builds(lambda tag, multiple: spec.Basic.Nack(tag, multiple, False), _tags, st.booleans())
_others = st.sampled_from([spec.Channel.Flow(True), spec.Basic.QosOk()])
_cuts = st.lists(st.integers(0, 2_000), max_size=12)


def test_pika_is_the_version_that_was_read() -> None:
    """The private parts were read in pika 1.4."""
    assert pika.__version__.startswith("1.4.")


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Connection._output_marshaled_frames, ["self", "marshaled_frames"]),
        (Connection._on_data_available, ["self", "data_in"]),
        (BaseConnection._adapter_emit_data, ["self", "data"]),
        (pika.SelectConnection._get_write_buffer_size, ["self"]),
    ],
)
def test_a_private_method_has_its_signature(function: Any, parameters: list[str]) -> None:
    """The four private methods that are used or replaced take what they took."""
    assert list(inspect.signature(function).parameters) == parameters


@pytest.mark.parametrize("name", ["_frame_buffer", "_transport", "bytes_received"])
def test_a_private_attribute_is_there(name: str) -> None:
    """The three private attributes that are read or set exist on a connection."""
    wire = Wire()
    assert name in vars(wire.connection)
    wire.close()


def test_what_is_emitted_reaches_the_transport_as_it_is() -> None:
    """Pieces are written in order, whatever kind of buffer they are, and counted."""
    wire = Wire()
    wire.connection.emit([memoryview(b"one"), b"two"])
    assert (wire.transport.writes, wire.connection.emitted) == ([b"one", b"two"], 6)
    wire.close()


def test_written_is_what_the_socket_has_taken() -> None:
    """Bytes that wait in the transport's buffer are not written yet."""
    wire = Wire()
    wire.connection.emit([b"0123456789"])
    wire.transport.held = 4
    assert wire.connection.written == 6
    wire.close()


def test_nothing_is_written_on_a_connection_that_is_gone() -> None:
    """Without a transport nothing counts as written."""
    wire = Wire()
    wire.connection.emit([b"0123456789"])
    wire.connection._transport = None
    assert wire.connection.written == 0
    wire.close()


@given(answers=st.lists(_acks | _nacks | _others, max_size=30), cuts=_cuts)
def test_confirms_are_read_as_pika_reads_them(answers: list[Any], cuts: list[int]) -> None:
    """Acks, nacks and whatever is between them arrive complete and in order, however the bytes are cut."""
    heard: list[Any] = []
    wire = Wire(on_ack=lambda tag, multiple: heard.append(("Basic.Ack", tag, multiple)))

    def listen(got: Any) -> None:
        answer = got.method
        reported = (answer.delivery_tag, answer.multiple) if hasattr(answer, "delivery_tag") else ()
        heard.append((answer.NAME, *reported))

    for kind in (spec.Basic.Ack, spec.Basic.Nack, spec.Channel.Flow, spec.Basic.QosOk):
        wire.connection.callbacks.add(1, kind, listen, False)
    sent = b"".join(map(method, answers))
    places = sorted({cut % (len(sent) + 1) for cut in cuts} | {0, len(sent)})
    wire.receive(*(sent[start:end] for start, end in itertools.pairwise(places)))
    assert heard == [
        (answer.NAME, answer.delivery_tag, answer.multiple) if hasattr(answer, "multiple") else (answer.NAME,)
        for answer in answers
    ]
    assert wire.connection.bytes_received == len(sent)
    wire.close()


def test_acks_of_another_channel_take_the_other_road() -> None:
    """Only the channel that is published on is read in bulk."""
    heard: list[int] = []
    wire = Wire(on_ack=lambda tag, multiple: heard.append(tag))
    wire.connection.callbacks.add(
        2, spec.Basic.Ack, lambda got: heard.append(-got.method.delivery_tag), False
    )
    wire.receive(method(spec.Basic.Ack(7, False), channel_number=2) + method(spec.Basic.Ack(8, False)))
    assert heard == [-7]  # the second is behind a frame that pika read, and finds no callback of pika's
    wire.close()


def test_a_broken_frame_is_pikas_to_refuse() -> None:
    """An ack without its end mark is an error, as it is for pika."""
    wire = Wire()
    with pytest.raises(InvalidFrameError):
        wire.receive(method(spec.Basic.Ack(1, False))[:-1] + b"?")
    wire.close()


def test_a_large_frame_between_acks_is_whole() -> None:
    """A body that comes in many reads does not disturb the acks around it."""
    heard: list[int] = []
    wire = Wire(on_ack=lambda tag, multiple: heard.append(tag))
    bodies: list[bytes] = []

    class Channel:
        def _handle_content_frame(self, got: Any) -> None:
            bodies.append(got.fragment)

    wire.connection._channels[1] = Channel()
    sent = method(spec.Basic.Ack(1, False)) + frame.Body(1, b"x" * 100_000).marshal()
    wire.receive(*(sent[at : at + 4_096] for at in range(0, len(sent), 4_096)))
    wire.receive(method(spec.Basic.Ack(2, False)))
    assert (heard, bodies) == ([1, 2], [b"x" * 100_000])
    wire.close()
