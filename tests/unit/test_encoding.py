"""The wire form of payloads."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import sys
import uuid
from collections import OrderedDict, deque
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from counted_calls import Calls
from hypothesis import example, given
from hypothesis import strategies as st

from rambla_py.errors import OptionError, SerializationError
from rambla_py.serialization.encoding import as_object, encode, serialize_by_name, to_json


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: Any


@dataclasses.dataclass
class Line:
    sku: Any


class SafeText(str):
    __slots__ = ()


def shout(payload: Any) -> str:
    return json.dumps(payload).upper()


def broken(payload: Any) -> bytes:
    raise LookupError("no schema")


def exhausted(payload: Any) -> bytes:
    raise MemoryError


def wrong(payload: Any) -> int:
    return 7


MINE = f"{__name__}:"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_values_survive(value: Any) -> None:
    """What JSON can hold comes back from the wire as it was."""
    assert json.loads(to_json(value)) == value


@given(json_values)
def test_an_object_is_an_object(value: Any) -> None:
    """``format = "object"`` always puts a JSON object on the wire."""
    assert isinstance(json.loads(encode(value, format="object")), dict)


@given(st.binary())
def test_bytes_go_as_they_are(data: bytes) -> None:
    """No kind of bytes is touched on its way to the wire."""
    assert encode(data) == encode(bytearray(data)) == encode(memoryview(data)) == data


def test_bytes_are_a_copy_where_they_could_change() -> None:
    """A bytearray that changes after the call does not change what is sent."""
    data = bytearray(b"ab")
    sent = encode(data)
    data[0] = 0
    assert sent == b"ab"


@pytest.mark.parametrize(
    ("payload", "wire"),
    [
        ("é", "é".encode()),
        (None, b"null"),
        ({"a": [1, True, None]}, b'{"a":[1,true,null]}'),
        (dt.datetime(2013, 1, 1, tzinfo=dt.UTC), b'"2013-01-01T00:00:00Z"'),
        ({"d": Decimal("1.10")}, b'{"d":"1.10"}'),
        ([uuid.UUID(int=1)], b'["00000000-0000-0000-0000-000000000001"]'),
        ([Colour.RED, Point(1)], b'["red",{"x":1}]'),
        (Line("s"), b'{"sku":"s"}'),
        ([SafeText("x"), deque([1])], b'["x",[1]]'),
        (MappingProxyType({"a": OrderedDict(b=1)}), b'{"a":{"b":1}}'),
        ([2**70], b"[1180591620717411303424]"),
        ({1: "a"}, b'{"1":"a"}'),
    ],
)
def test_what_json_writes(payload: Any, wire: bytes) -> None:
    """Each kind of value has the documented JSON form."""
    assert encode(payload) == wire


@pytest.mark.parametrize(
    ("payload", "made"),
    [
        ('{"a": 1}', {"a": 1}),
        (b'{"a": 1}', {"a": 1}),
        ("[1]", {"value": [1]}),
        ("plain", {"value": "plain"}),
        ('{"a": ', {"value": '{"a": '}),
        (7, {"value": 7}),
        (None, {"value": None}),
        ((1, 2), {"value": (1, 2)}),
        ({"a": 1}, {"a": 1}),
        (Point(1), Point(1)),
        (Line(1), Line(1)),
    ],
)
def test_what_becomes_an_object(payload: Any, made: Any) -> None:
    """JSON in text or bytes is read, and what is no object is wrapped."""
    assert as_object(payload, format="object") == made


@pytest.mark.parametrize(
    ("payload", "shape", "made"),
    [
        ('{"a": 1}', "none", '{"a": 1}'),
        (b"ab", "none", "ab"),
        ({"a": 1}, "none", {"a": 1}),
        ({"a": 1}, "bytes", '{"a":1}'),
        (b"ab", "bytes", "ab"),
    ],
)
def test_what_is_embedded_otherwise(payload: Any, shape: Any, made: Any) -> None:
    """Without ``object`` text stays text, and ``bytes`` gives the text of the wire form."""
    assert as_object(payload, format=shape) == made


def test_a_serializer_of_the_users_own_is_used_and_read() -> None:
    """Its output is the wire form, and is embedded as the JSON that it is."""
    assert encode({"a": 1}, serializer=MINE + "shout") == b'{"A": 1}'
    assert as_object({"a": 1}, serializer=MINE + "shout") == {"A": 1}


def test_text_is_not_serialized_twice() -> None:
    """A serializer is not applied to text and bytes."""
    assert encode("a", serializer=MINE + "shout") == b"a"


def test_msgpack_keeps_nan_and_key_types() -> None:
    """MessagePack writes what JSON has no form for."""
    assert msgspec.msgpack.decode(encode({1: b"x"}, serializer="msgpack")) == {1: b"x"}


def test_an_object_read_from_text_goes_through_the_serializer() -> None:
    """``format`` comes before ``serializer``."""
    assert msgspec.msgpack.decode(encode("[1]", format="object", serializer="msgpack")) == {"value": [1]}


def cyclic() -> dict[str, Any]:
    order: dict[str, Any] = {"lines": []}
    order["lines"].append({"order": order})
    return order


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("payload", "path", "got"),
    [
        (object(), "$", "type 'object'"),
        ({"order": {"lines": [0, 1, 2, {3j}]}}, "$.order.lines[3][0]", "type 'complex'"),
        ({"a b": [object()]}, "$['a b'][0]", "object"),
        ({1: {dt.date(2013, 1, 1): object()}}, "$[1]['2013-01-01']", "object"),
        ({"a": {(1, 2): 0}}, "$.a", "a key of type 'tuple'"),
        ({"a": {"\ud800": 0}}, "$.a", "a key with a lone surrogate"),
        ({"a": ["\ud800"]}, "$.a[0]", "lone surrogate"),
        ("\ud800", "$", "lone surrogate"),
        ({"p": Point(Line(object()))}, "$.p.x.sku", "object"),
        (deque([1, object()]), "$[1]", "object"),
        (cyclic(), "$.lines[0].order", "is inside itself"),
    ],
)
def test_the_error_names_the_place(payload: Any, path: str, got: str) -> None:
    """What cannot be written is found, whatever holds it."""
    with pytest.raises(SerializationError) as caught:
        encode(payload)
    assert caught.value.path == path
    assert got in caught.value.got


def test_msgpack_names_the_place_too() -> None:
    """An integer that MessagePack has no room for is found."""
    with pytest.raises(SerializationError, match=r"\$\.a\[1\]: an integer beyond 64 bits"):
        encode({"a": [1, 2**64]}, serializer="msgpack")


def test_nesting_without_end_is_an_error_and_not_a_crash() -> None:
    """The error for a payload nested too deeply names its depth, with a path of readable length."""
    with pytest.raises(SerializationError, match="nested 20001 levels deep") as caught:
        encode(nested(20_000))
    assert len(caught.value.path) < 200


def test_the_error_does_not_show_values() -> None:
    """A payload may be secret: the error has only types."""
    with pytest.raises(SerializationError) as caught:
        encode({"card": ["4111-1111", object()]})
    assert "4111" not in str(caught.value)


class Unwritable:
    pass


steps = st.lists(st.sampled_from(["dict", "list", "tuple", "struct"]), max_size=6)


@given(steps, st.text(alphabet="abcdef", min_size=1, max_size=4), st.integers(0, 3))
def test_any_place_is_found(kinds: list[str], name: str, index: int) -> None:
    """A value that cannot be written is named wherever it was put."""
    value: Any = Unwritable()
    path = ""
    for kind in kinds:
        if kind == "dict":
            value, path = {"zz": [1], name: value}, f".{name}{path}"
        elif kind == "struct":
            value, path = Point(value), f".x{path}"
        else:
            items = [*({"ok": n} for n in range(index)), value, "after"]
            value, path = (items if kind == "list" else tuple(items)), f"[{index}]{path}"
    with pytest.raises(SerializationError) as caught:
        encode(value)
    assert caught.value.path == f"${path}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", "raised LookupError: no schema"),
        ("wrong", "expected bytes or text back, got a value of type 'int'"),
        ("nothing", "has no 'nothing'"),
        ("MINE", "is not a function"),
    ],
)
def test_a_failing_serializer_is_fatal(name: str, expected: str) -> None:
    """Whatever goes wrong in a function of the user's is an error of the payload, with the cause kept."""
    with pytest.raises(SerializationError, match=expected) as caught:
        encode({}, serializer=MINE + name)
    assert caught.value.__cause__ is not None
    assert not caught.value.retryable


def test_an_unknown_serializer_names_the_nearest() -> None:
    """A slip of the pen is mended by the message."""
    with pytest.raises(OptionError, match="did you mean 'json'"):
        serialize_by_name("jsn")


def test_a_serializer_is_looked_up_once() -> None:
    """The function behind a name is kept."""
    assert serialize_by_name(MINE + "shout") is serialize_by_name(MINE + "shout")


@pytest.mark.parametrize("shape", ["none", "object", "bytes"])
def test_bytes_that_are_no_text_cannot_be_embedded(shape: Any) -> None:
    """JSON has no place for raw bytes; guessing an encoding would be worse."""
    with pytest.raises(SerializationError, match="not UTF-8"):
        as_object(b"\xff", format=shape)


def test_running_out_of_memory_is_not_the_payloads_fault() -> None:
    """A MemoryError passes, for it says nothing about the message."""
    with pytest.raises(MemoryError):
        encode({}, serializer=MINE + "exhausted")


def test_a_released_view_is_an_error_of_the_payload() -> None:
    """A memoryview that was released cannot be sent."""
    view = memoryview(b"ab")
    view.release()
    with pytest.raises(SerializationError, match="memoryview that cannot be read"):
        encode(view)


FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def _nested(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(max_size=2), inside, max_size=3)
        | st.dictionaries(FLOATS.filter(math.isfinite), inside, max_size=2)
        | st.tuples(inside, inside)
        | st.lists(inside, max_size=2).map(deque)
        | st.dictionaries(st.text(max_size=2), inside, max_size=2).map(OrderedDict)
        | inside.map(Point)
    )


@example({"a": None, "b": {"c": [1.5, (math.nan,)]}})
@example([None, {"a": -math.inf}])
@example(math.inf)
@example({"a": None, "b": OrderedDict(c=math.nan), "d": sys.float_info.max, "e": -sys.float_info.max})
@example({"a": None, "b": sys.float_info.max, "c": -sys.float_info.max, "d": ({"e": b""},)})
@given(st.recursive(FLOATS | st.none() | st.integers(-9, 9) | st.text(max_size=2), _nested, max_leaves=8))
def test_no_number_is_written_as_null(value: Any) -> None:
    """NaN and infinity are refused wherever they are, and nothing else is."""
    finite = "nan" not in repr(value) and "inf" not in repr(value)
    if not finite:
        with pytest.raises(SerializationError, match="which JSON cannot hold"):
            to_json(value)
    else:
        assert to_json(value).count(b"null") >= repr(value).count("None")


def test_a_none_costs_no_search() -> None:
    """NaN is looked for without the path to each value: 100 fields take a handful of calls."""
    calls = Calls()
    payload = {f"field-{number}": None for number in range(100)}
    with calls.counting():
        to_json(payload)
    assert calls.per_message(1) < 20
