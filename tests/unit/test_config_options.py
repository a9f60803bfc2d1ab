"""Tests of how the options of one message are laid over those of its channel."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Any

import msgspec
import pytest
from config_handlers import HERE, Audit, Needy, Open, Paired, Silent, hook, load, service
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from rambla_py.config import ChannelConfig, MergedOptions, accepts, declared, merge_message, option_names
from rambla_py.config.fast_checks import fast_check
from rambla_py.config.options import reserved
from rambla_py.config.reserved import PER_MESSAGE
from rambla_py.config.struct_fields import Field, fields_of
from rambla_py.errors import HandlerError, OptionError
from rambla_py.handler import Handler
from rambla_py.policy import Backoff, Callbacks, Policy


def channel(handler: type[Handler] = Audit, **options: Any) -> ChannelConfig:
    return load(audit=service(handler, options=options)).services["audit"].channels["orders"]


def merge(**given: Any) -> MergedOptions:
    return merge_message(channel(), given)


def refusal(target: ChannelConfig | None = None, **given: Any) -> str:
    with pytest.raises(OptionError) as caught:
        merge_message(target or channel(), given)
    return str(caught.value)


def test_nothing_given_is_the_channels_own() -> None:
    """Without options a message travels with the channel's."""
    target = channel(level=3, headers={"a": "1"})
    merged = merge_message(target, {})
    assert merged == (target.options, target.policy, {"a": "1"}, None, None)
    assert merged.options is target.options
    assert merged.policy is target.policy


def test_given_options_win_and_the_channel_stays() -> None:
    """An option of the message wins, the others stay, and the channel is as before."""
    target = channel(level=3, mode="slow")
    assert merge_message(target, {"level": 4}).options == Audit.Options(level=4, mode="slow")
    assert target.options.level == 3


def test_reserved_options_make_the_policy() -> None:
    """Reserved options of a message end in its policy."""
    assert merge(retries=1, priority="high", delay_s=2).policy == Policy(
        retries=1, priority="high", delay_s=2.0
    )


def test_id_and_key_travel_beside() -> None:
    """``id`` and ``key`` come back by themselves."""
    merged = merge(id="a", key="b")
    assert (merged.id, merged.key) == ("a", "b")


def test_none_for_id_key_and_headers_is_none_given() -> None:
    """``None`` for ``id``, ``key`` or ``headers`` is the same as leaving them out."""
    assert merge(id=None, key=None, headers=None) == merge()


class Colour(enum.StrEnum):
    RED = "red"


class Count(enum.IntEnum):
    TWO = 2


def test_header_values_of_a_subclass_become_the_plain_type() -> None:
    """A string enumeration is a string, a bytearray is bytes, whatever the handler."""
    given = {"colour": Colour.RED, "count": Count.TWO, "raw": bytearray(b"ab"), "on": True}
    headers = merge(headers=given).headers
    assert headers == {"colour": "red", "count": 2, "raw": b"ab", "on": True}
    assert [type(value) for value in headers.values()] == [str, int, bytes, bool]


class Rich(Audit):
    header_types = (type(None), list)


def test_a_handler_may_hold_further_kinds_of_header_values() -> None:
    """They are captured at the call; what no header can hold is refused by name."""
    given: dict[str, Any] = {"none": None, "list": ["a", ["b"]]}
    headers = merge_message(channel(Rich), {"headers": given}).headers
    given["list"][1].append("c")
    assert headers == {"none": None, "list": ["a", ["b"]]}
    assert "at 'a': a value of type 'object'" in refusal(channel(Rich), headers={"a": object()})


def test_headers_merge_key_by_key() -> None:
    """Headers of the message are laid over the channel's, which stay as they are."""
    target = channel(headers={"a": "1", "b": "1"})
    assert merge_message(target, {"headers": {"b": 2, "c": b"3"}}).headers == {"a": "1", "b": 2, "c": b"3"}
    assert target.headers == {"a": "1", "b": "1"}


@pytest.mark.parametrize("backoff", [Backoff(max_s=5.0), {"max_s": 5}])
def test_backoff_may_be_a_table_or_a_backoff(backoff: Any) -> None:
    """``backoff`` takes a mapping as well as a ``Backoff``."""
    assert merge(backoff=backoff).policy.backoff == Backoff(max_s=5.0)


@pytest.mark.parametrize(
    "callbacks", [{"on_fatal": hook}, Callbacks(on_fatal=hook), {"on_fatal": f"{HERE}:hook"}]
)
def test_callbacks_may_be_functions_or_paths(callbacks: Any) -> None:
    """``callbacks`` takes functions, by themselves or as paths."""
    found = merge(callbacks=callbacks).policy.callbacks
    assert found.on_fatal.__name__ == "hook"
    assert found.on_success is None


@pytest.mark.parametrize("never", [None, math.inf])
def test_expiry_may_be_never(never: float | None) -> None:
    """``expires_s`` of ``None``, or without end, is never."""
    assert merge(expires_s=never).policy.expires_s is None


def test_whole_number_serves_for_a_number() -> None:
    """An integer is taken where a number is declared, and becomes one."""
    ratio = merge(ratio=2).options.ratio
    assert (ratio, type(ratio)) == (2.0, float)


def test_open_handler_takes_any_name() -> None:
    """Where ``Options`` is ``dict`` every name is taken."""
    target = channel(Open, a=1, b=1)
    assert merge_message(target, {"b": 2, "c": object, "retries": 0}).options == {"a": 1, "b": 2, "c": object}


def test_renamed_field_goes_by_its_name_in_the_file() -> None:
    """An option whose field has another name is given by the name that users write."""
    assert merge(**{"from": "me"}).options.from_ == "me"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"levle": 1}, "option 'levle' for audit.orders: unknown; did you mean 'level'?"),
        ({"retires": 1}, "option 'retires' for audit.orders: unknown; did you mean 'retries'?"),
        ({"level": "1"}, "option 'level' for audit.orders: expected an integer >= 0 and <= 9, got '1'"),
        ({"level": 10}, "option 'level' for audit.orders: expected an integer >= 0 and <= 9, got 10"),
        ({"level": True}, "option 'level' for audit.orders: expected an integer >= 0 and <= 9, got true"),
        ({"limit": 0}, "option 'limit' for audit.orders: expected an integer >= 1, got 0"),
        ({"mode": b"x"}, "option 'mode' for audit.orders: expected a string, got 1 bytes"),
        ({"retries": -1}, "option 'retries' for audit.orders: expected an integer >= 0, got -1"),
        (
            {"priority": "hgh"},
            "option 'priority' for audit.orders: expected one of 'high', 'normal', got 'hgh'",
        ),
        ({"id": ""}, "option 'id' for audit.orders: expected a string that is not empty, got ''"),
        ({"key": 5}, "option 'key' for audit.orders: expected a string, got 5"),
        (
            {"table": "x"},
            "option 'table' for audit.orders: is set per channel, in the configuration, not for one message",
        ),
        (
            {"count": 2},
            "option 'count' for audit.orders: is a setting of the channel, in the configuration",
        ),
        ({"headers": 5}, "option 'headers' for audit.orders: expected a mapping, got 5"),
        ({"headers": {5: "a"}}, "option 'headers' for audit.orders: expected a string for each name, got 5"),
        (
            {"headers": {"a": ["b", object()]}},
            "option 'headers' for audit.orders: at 'a': $[1]: a value of type 'object', which json cannot write",
        ),
        (
            {"serializer": "xml"},
            "option 'serializer' for audit.orders: 'xml' is not of the form 'module:function'",
        ),
        (
            {"delay_s": 300, "expires_s": 300},
            "option 'delay_s' for audit.orders: must be less than expires_s (300); got 300",
        ),
        (
            {"expires_s": 1, "delay_s": 2},
            "option 'delay_s' for audit.orders: must be less than expires_s (1); got 2",
        ),
        ({"callbacks": {"on_fatal": 5}}, "option 'callbacks' for audit.orders: 5 is not callable"),
        (
            {"backoff": {"initial_s": -1}},
            "option 'backoff' for audit.orders: expected a table, got a table with 'initial_s' "
            "(Expected `float` >= 0.0 - at `$.initial_s`)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], text: str) -> None:
    """A name or a value that the target does not take is an ``OptionError`` that says why."""
    assert refusal(**given) == text


def test_expiry_below_the_channels_delay_is_refused() -> None:
    """A message may not expire before the channel's own delay is over."""
    assert "must be less than expires_s (1)" in refusal(channel(delay_s=5), expires_s=1)


def test_options_that_do_not_fit_together() -> None:
    """What ``Options`` itself refuses is an ``OptionError``."""
    assert refusal(channel(Paired), low=20) == "option 'low' for audit.orders: low is above high"


def test_handler_without_options_takes_the_reserved_ones() -> None:
    """A handler without ``Options`` takes reserved options and no others."""
    target = channel(Silent)
    assert merge_message(target, {"retries": 1}).policy.retries == 1
    assert refusal(target, level=1) == "option 'level' for audit.orders: unknown"


@pytest.mark.parametrize(
    ("handler", "name", "taken"),
    [
        (Audit, "level", True),
        (Audit, "table", True),
        (Audit, "headers", True),
        (Audit, "nope", False),
        (Silent, "level", False),
        (Silent, "key", True),
        (Open, "nope", True),
    ],
)
def test_accepts_says_who_takes_an_option(handler: type[Handler], name: str, taken: bool) -> None:
    """A target accepts what its handler declares, and what is reserved."""
    assert accepts(channel(handler), name) is taken


def test_declared_options_describe_themselves() -> None:
    """Each declared option has its type, default, place and text."""
    fields = declared(Audit)
    assert list(fields) == ["table", "level", "mode", "ratio", "limit", "from"]
    assert (fields["table"].per_channel, fields["level"].per_channel) == (True, False)
    assert (fields["level"].default, fields["level"].description) == (1, "importance")
    assert declared(Needy)["table"].required
    assert declared(Open) == declared(Silent) == {}


def test_options_that_are_no_struct_are_refused() -> None:
    """A handler whose ``Options`` are neither a struct nor ``dict`` is refused."""

    class Wrong(Silent):
        Options = list

    with pytest.raises(HandlerError, match="not a msgspec struct"):
        declared(Wrong)


def test_every_field_of_the_policy_is_a_reserved_option() -> None:
    """Policy and reserved options have the same names and defaults, but for those that travel beside."""
    inner = {"expires_when_due"}
    assert set(reserved()) == {*Policy.__struct_fields__, *PER_MESSAGE, "headers"} - inner
    for name in set(Policy.__struct_fields__) - inner - {"backoff", "callbacks", "event_extensions"}:
        assert reserved()[name].default == getattr(Policy(), name)
    assert msgspec.structs.asdict(reserved()["backoff"].default) == msgspec.structs.asdict(Backoff())
    assert set(option_names(Silent)) == set(reserved())


def test_each_reading_of_a_struct_has_defaults_of_its_own() -> None:
    """What one configuration does to a default is not in the next one."""

    class Listed(msgspec.Struct):
        names: list[str] = []

    (first,) = fields_of(Listed)
    first.default.append("shop")
    (second,) = fields_of(Listed)
    assert second == Field("names", "names", list[str], [])


BOUNDS = st.none() | st.integers(-5, 5)


@given(BOUNDS, BOUNDS, BOUNDS, BOUNDS, st.sampled_from([int, float]), st.integers(-7, 7) | st.floats())
def test_a_fast_check_never_accepts_what_msgspec_refuses(
    ge: int | None, gt: int | None, le: int | None, lt: int | None, kind: type, value: float
) -> None:
    """What passes the fast check passes msgspec's own."""
    bounds = {"ge": ge} if gt is None else {"gt": gt}
    bounds |= {"le": le} if lt is None else {"lt": lt}
    meta = Meta(**{name: bound for name, bound in bounds.items() if bound is not None})
    seen = fast_check(Annotated[kind, meta])
    if type(value) is seen.exact and (seen.fits is None or seen.fits(value)):
        assert msgspec.convert(value, Annotated[kind, meta]) == value
    elif type(value) is kind and math.isfinite(value):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, Annotated[kind, meta])


@pytest.mark.parametrize(
    "name", ["level", "mode", "ratio", "limit", "retries", "delay_s", "expires_s", "priority", "id", "key"]
)
def test_common_options_have_a_fast_check(name: str) -> None:
    """The options that messages are likely to have need no other."""
    field = declared(Audit).get(name) or reserved()[name]
    assert fast_check(field.type).exact is not None
