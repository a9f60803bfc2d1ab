"""Numbers of JSON text, read and written again."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.serialization.encoding import as_object, encode, to_json
from rambla_py.serialization.json_numbers import JsonNumber, read_json

digits = st.text("0123456789", min_size=1, max_size=40)
numbers = st.builds(
    lambda sign, whole, part, power: f"{sign}{int(whole)}{part}{power}",
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | digits.map(lambda text: "." + text),
    st.just("") | st.integers(-400, 400).map(lambda power: f"e{power}"),
)


@given(numbers)
def test_a_number_in_text_is_written_as_it_was(number: str) -> None:
    """What is not read is not changed: no digit, no zero at the end, no exponent."""
    text = f'{{"n": [{number}]}}'
    assert encode(text, format="object").decode() == text
    assert encode(f"[{number}]", format="object").decode() == f'{{"value":[{number}]}}'


@given(numbers)
def test_a_number_that_is_read_keeps_its_value(number: str) -> None:
    """As a float where that is exact, else as a ``Decimal`` that JSON writes as a number."""
    value = read_json(number)
    if isinstance(value, float):
        assert Decimal(repr(value)) == Decimal(number)
    else:
        assert value == Decimal(number)
    assert json.loads(to_json(value), parse_float=Decimal) == Decimal(number)


def test_a_float_stays_a_float() -> None:
    """Only a number that a float would round becomes something else."""
    assert [type(value) for value in read_json("[0.5, 1.10, 1E5, 7, -0.0]")] == [float] * 3 + [int, float]
    assert [type(value) for value in read_json("[0.10000000000000000001, 1e400]")] == [JsonNumber] * 2


def test_such_a_number_is_a_decimal_elsewhere() -> None:
    """It can be pickled, compared and, in MessagePack, which has no such numbers, read as a string."""
    (value,) = read_json("[0.10000000000000000001]")
    assert pickle.loads(pickle.dumps(value)) == Decimal("0.10000000000000000001")
    assert b"0.10000000000000000001" in encode(
        '{"n": 0.10000000000000000001}', format="object", serializer="msgpack"
    )


@pytest.mark.parametrize("text", ["not json", "[1", '{"a": 01}', '{"a": "\\q"}', "", "[" * 100_000])
@pytest.mark.parametrize("written", [False, True])
def test_text_that_is_no_json_stays_text(text: str, written: bool) -> None:
    """It is wrapped as a string, whichever way it was looked at."""
    assert as_object(text, format="object", written=written) == {"value": text}


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_both_ways_make_the_same_object(value: Any) -> None:
    """An object stays an object; anything else is wrapped."""
    text = json.dumps(value)
    written = to_json(as_object(text, format="object", written=True))
    assert (
        json.loads(written)
        == as_object(text, format="object")
        == (value if isinstance(value, dict) else {"value": value})
    )
