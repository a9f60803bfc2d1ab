"""Kinds of header values: as the backend holds them, as text otherwise, by one rule for all handlers."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rambla_py as rambla
from rambla_py import ConfigError, OptionError, Rambla
from rambla_py.config.options import merge_headers
from rambla_py.handlers.memory import store
from rambla_py.serialization.header_values import header_text, header_value

NONE = type(None)
HELD: dict[str, set[type]] = {
    "amqp": {NONE, list, dict, dt.datetime},
    "kombu": {NONE, list, dict, dt.datetime},
    "kafka": {NONE},
    "file": {NONE, list, dict},
    "console": {NONE, list, dict},
    "memory": {NONE, list, dict, dt.datetime, dt.date, dt.time, Decimal},
}
OTHERS = (
    "http",
    "clickhouse",
    "jitsu",
    "smtp",
    "objects",
    "redis",
    "sql",
    "state",
    "nats",
    "mqtt",
    "null",
    "stub",
    "mock",
)


class Size(Enum):
    """An enum."""

    LARGE = 3


class Word(StrEnum):
    """An enum of strings."""

    A = "a"


VALUES: dict[str, tuple[Any, str | None]] = {
    "string": ("é", "é"),
    "string enum": (Word.A, "a"),
    "enum": (Size.LARGE, "3"),
    "true": (True, "true"),
    "integer": (2**70, str(2**70)),
    "float": (2.5, "2.5"),
    "none": (None, None),
    "time with zone": (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00Z"),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": (dt.time(3, 4), "03:04:00"),
    "interval": (dt.timedelta(seconds=5), "PT5S"),
    "decimal": (Decimal("1.10"), "1.10"),
    "uuid": (uuid.UUID(int=7), str(uuid.UUID(int=7))),
    "path": (Path("a/b"), "a/b"),
    "list": (["a", 1, None], '["a",1,null]'),
    "tuple": (("a",), '["a"]'),
    "table": ({"a": [1], "b": {"c": None}}, '{"a":[1],"b":{"c":null}}'),
}


def test_every_handler_is_here() -> None:
    """A new handler states what its headers hold."""
    aliases = {"s3", "httpc"}
    for name in set(rambla.handler_names()) - aliases:
        kind = rambla.find_handler(name)
        if not kind.__module__.startswith("rambla_py.handlers."):
            continue
        assert name in HELD or name in OTHERS
        assert set(kind.header_types) == HELD.get(name, set()), name


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_a_backend_does_not_hold_becomes_text(value: tuple[Any, str | None]) -> None:
    """Numbers and booleans stay what they are until a protocol of text writes them."""
    given, text = value
    made = header_value(given, ())
    assert (made if made is None else header_text(made)) == text
    assert isinstance(made, (str, int, float, bool, NONE))


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_a_backend_holds_stays_what_it_is(value: tuple[Any, str | None]) -> None:
    """Inside lists and tables too; what it does not hold is text there as well."""
    given, text = value
    kinds = (NONE, list, dict, dt.datetime)
    made = header_value({"a": [given]}, kinds)["a"][0]
    if isinstance(given, (NONE, dt.datetime, list, dict)):
        assert made == given
    elif isinstance(given, tuple):
        assert made == list(given)
    else:
        assert header_text(made) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(json_values)
def test_containers_arrive_as_themselves_or_as_their_json(value: Any) -> None:
    """No value is lost on either way."""
    assert header_value(value, (NONE, list, dict)) == value
    if isinstance(value, (list, dict)):
        assert json.loads(header_value(value, ())) == value


@pytest.fixture
def app() -> Iterator[Rambla]:
    """Handlers that hold different kinds, on channels with headers of their own."""
    channel = {"orders": {"options": {"headers": {"kept": "yes", "gone": "yes", "list": ["a"]}}}}
    with Rambla(
        {
            "memory": {"connections": {"one": {"name": "headers"}}, "channels": channel},
            "null": {"channels": channel},
        }
    ) as app:
        yield app


def test_headers_of_a_channel_follow_the_same_rule(app: Rambla) -> None:
    """Lists and tables of a TOML are held, or text."""
    memory, null = (app.config.services[name].channels["orders"] for name in ("memory", "null"))
    assert memory.headers == {"kept": "yes", "gone": "yes", "list": ["a"]}
    assert null.headers == {"kept": "yes", "gone": "yes", "list": '["a"]'}


def test_a_none_is_sent_or_removes_the_header(app: Rambla) -> None:
    """Where a backend has no null, the header of the channel is left out."""
    memory, null = (app.config.services[name].channels["orders"] for name in ("memory", "null"))
    assert merge_headers(memory, {"gone": None}) == {"kept": "yes", "gone": None, "list": ["a"]}
    assert merge_headers(null, {"gone": None, "new": None}) == {"kept": "yes", "list": '["a"]'}


def test_a_value_is_captured(app: Rambla) -> None:
    """What changes after the call has no effect."""
    tags = ["a"]
    receipt = app.publish("memory.orders", 1, headers={"list": tags})
    tags.append("late")
    receipt.result(timeout_s=10)
    assert store("headers").messages()[-1].headers["list"] == ["a"]


@pytest.mark.parametrize("value", [object(), [float("inf")], "\ud800", ["\ud800"], {"\ud800": 1}])
def test_what_no_header_can_hold_is_refused_by_name(app: Rambla, value: Any) -> None:
    """The call raises, and the error names the header; a list in it with its place."""
    with pytest.raises(OptionError, match="at 'x'"):
        app.publish("null.orders", 1, headers={"x": value})


@pytest.mark.parametrize("value", [["\ud800"], {"a": "\ud800"}, {"\ud800": 1}], ids=repr)
def test_a_lone_surrogate_is_found_where_containers_are_held(app: Rambla, value: Any) -> None:
    """It is refused by the call, and not by the encoder of a driver."""
    with pytest.raises(OptionError, match="at 'x': a lone surrogate"):
        app.publish("memory.orders", 1, headers={"x": value})


def test_a_header_of_a_configuration_that_no_backend_holds() -> None:
    """It is a problem of the configuration, with its path."""
    with pytest.raises(ConfigError, match=r"orders\.options\.headers\.x"):
        Rambla({"null": {"channels": {"orders": {"options": {"headers": {"x": object()}}}}}})
