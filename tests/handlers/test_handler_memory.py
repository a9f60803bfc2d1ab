"""The handler that keeps messages in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from handler_case import Case, delivery

from rambla_py.errors import SerializationError
from rambla_py.handlers import memory
from rambla_py.handlers.memory import MemoryHandler


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.node.name
    memory.forget(request.node.name)


def named(name: str | None, channel: str = "orders", **options: Any) -> Case:
    return Case(MemoryHandler, settings=MemoryHandler.Connection(name=name), channel=channel, **options)


def test_a_message_is_kept_with_all_that_belongs_to_it(name: str) -> None:
    """Payload, id, key, headers, channel and time can be read back."""
    case = named(name)
    sent = delivery({"a": 1}, options=case.options, key="k", headers={"h": "1"})
    assert case.send(sent) == [None]
    (kept,) = memory.store(name).messages("orders")
    assert (kept.payload, kept.id, kept.key, kept.headers) == ({"a": 1}, sent.id, "k", {"h": "1"})
    assert (kept.channel, kept.service) == ("orders", "svc")
    assert kept.at > 1_700_000_000


def test_the_oldest_goes_when_there_are_too_many(name: str) -> None:
    """Memory is bounded, by channel."""
    named(name, max_messages=2).send(1, 2, 3)
    named(name, channel="other", max_messages=2).send(4)
    assert memory.store(name).payloads("orders") == [2, 3]
    assert len(memory.store(name)) == 3


def test_messages_can_be_asked_for_by_a_condition(name: str) -> None:
    """``where`` decides, over all channels, oldest first."""
    named(name).send(1, 2)
    named(name, channel="other").send(3, 4)
    found = memory.store(name).messages(where=lambda record: record.payload % 2 == 0)
    assert [record.payload for record in found] == [2, 4]


def test_a_channel_can_be_cleared(name: str) -> None:
    """The others keep what they have."""
    named(name).send(1)
    named(name, channel="other").send(2)
    memory.store(name).clear("orders")
    assert memory.store(name).payloads() == [2]
    assert memory.store(name).channels() == ["other"]


def test_workers_of_an_unnamed_connection_share_a_store() -> None:
    """The store hangs on the connection's settings, which the workers of an app share."""
    settings = MemoryHandler.Connection()
    first, second = (Case(MemoryHandler, settings=settings) for _ in range(2))
    assert first.connection is second.connection


def test_unnamed_connections_of_two_apps_share_nothing() -> None:
    """Equal settings are not the same settings."""
    assert named(None).connection is not named(None).connection


def test_a_store_outlives_its_app_until_it_is_forgotten(name: str) -> None:
    """What was delivered can be read after the app has stopped."""
    named(name).send(1)
    assert memory.store(name).payloads() == [1]
    memory.forget(name)
    assert memory.store(name).payloads() == []


@pytest.mark.parametrize(
    ("shape", "kept"), [("none", '{"a":1}'), ("object", {"a": 1}), ("bytes", b'{"a":1}')]
)
def test_format_is_kept_to(name: str, shape: str, kept: Any) -> None:
    """A payload is kept in the shape that the option asks for."""
    named(name).send('{"a":1}', format=shape)
    assert memory.store(name).payloads() == [kept]


def test_one_bad_payload_fails_alone(name: str) -> None:
    """Its neighbours are kept."""
    case = named(name)
    answers = case.send(1, object(), 2, format="bytes")
    assert [type(answer) for answer in answers] == [type(None), SerializationError, type(None)]
    assert memory.store(name).payloads() == [b"1", b"2"]


def test_the_tables_are_checked() -> None:
    """A name is text that is not empty, and at least one message is kept."""
    assert msgspec.convert({"name": "inbox"}, MemoryHandler.Connection).name == "inbox"
    assert msgspec.convert({}, MemoryHandler.Options).max_messages == 10_000
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": ""}, MemoryHandler.Connection)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"max_messages": 0}, MemoryHandler.Options)
