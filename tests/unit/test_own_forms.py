"""Objects that say themselves how they are written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections import UserDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from rambla_py.errors import SerializationError
from rambla_py.serialization.capture import captured
from rambla_py.serialization.encoding import as_object, encode, to_json


class Own:
    """An object with a form of its own."""

    def __init__(self, form: Any) -> None:
        self.form = form

    def __json__(self) -> Any:
        return self.form


class Broken:
    """An object whose form cannot be had."""

    def __json__(self) -> Any:
        raise LookupError("data")


class Endless:
    """An object whose form is another one of its kind."""

    def __json__(self) -> Any:
        return Endless()


class Tree:
    """An object whose form holds another one of its kind."""

    def __json__(self) -> Any:
        return [Tree()]


class Mapped(UserDict):  # type: ignore[type-arg]
    """A mapping with a form of its own."""

    def __json__(self) -> Any:
        return "mapped"


@dataclasses.dataclass
class Line:
    """A dataclass: its fields are its form."""

    own: Any

    def __json__(self) -> Any:
        raise AssertionError("called")


class Amount(Decimal):
    """A subclass of a plain type."""


class Moment(dt.datetime):
    """Another one."""


class Day(dt.date):
    """Another one."""


class Span(dt.timedelta):
    """Another one."""


class Clock(dt.time):
    """Another one."""


class Id(uuid.UUID):
    """Another one."""


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Own({"a": [Own(1)]}), {"a": [1]}),
        (Own(Own("x")), "x"),
        (Own(None), None),
        (Line(Own(1)), {"own": 1}),
        (Mapped(a=1), "mapped"),
        (namedtuple("Pair", "a b")(Own(1), 2), [1, 2]),
        (Path("a/b"), "a/b"),
        (PureWindowsPath("a\\b"), "a\\b"),
        (Amount("1.10"), "1.10"),
        (Moment(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00Z"),
        (Day(2026, 1, 2), "2026-01-02"),
        (Clock(3, 4, 5, tzinfo=dt.UTC), "03:04:05Z"),
        (Span(seconds=5), "PT5S"),
        (Id(int=7), str(uuid.UUID(int=7))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_is_written_by_its_own_method(value: Any, form: Any) -> None:
    """At every depth, alone or captured before."""
    assert json.loads(to_json(value)) == form
    assert json.loads(to_json({"a": [value]})) == {"a": [form]}
    assert json.loads(to_json(captured({"a": (value,)}))) == {"a": [form]}


def test_the_form_is_taken_at_the_call() -> None:
    """What the object becomes later has no effect; containers that it handed out are copied."""
    inner = [1]
    one = Own({"lines": inner})
    kept = captured([one, (one,)])
    inner.append(2)
    one.form = "changed"
    assert kept == [{"lines": [1]}, ({"lines": [1]},)]


@pytest.mark.parametrize("write", [encode, captured])
@pytest.mark.parametrize(
    ("value", "path", "got"),
    [
        ({"a": {"b": [Broken()]}}, "$.a.b[0]", "an object whose __json__ raised LookupError"),
        ([Own({"c": Broken()})], "$[0].c", "an object whose __json__ raised LookupError"),
        ((Broken(),), "$[0]", "an object whose __json__ raised LookupError"),
        ([Endless()], "$[0]", "an object whose own forms have no end"),
    ],
)
def test_an_object_without_a_form_is_refused_with_its_path(
    write: Callable[[Any], Any], value: Any, path: str, got: str
) -> None:
    """The data that the method's error quotes does not show."""
    with pytest.raises(SerializationError) as caught:
        write(value)
    assert (caught.value.path, caught.value.got) == (path, got)


@pytest.mark.parametrize("write", [encode, captured])
def test_forms_that_hold_others_without_end_are_an_error(write: Callable[[Any], Any]) -> None:
    """They are not a crash, and not an endless loop."""
    with pytest.raises(SerializationError):
        write({"tree": Tree()})


def test_a_form_that_is_not_finite_is_refused_with_its_path() -> None:
    """JSON has no NaN, wherever it comes from."""
    with pytest.raises(SerializationError, match=r"\$\.a\.b: NaN"):
        to_json({"a": Own({"b": float("nan")})})
    assert to_json({"a": Own({"b": float("nan")})}, nan="null") == b'{"a":{"b":null}}'


def test_an_object_whose_form_is_a_mapping_is_an_object() -> None:
    """``format = "object"`` does not wrap it."""
    assert json.loads(encode(Own({"a": 1}), format="object")) == {"a": 1}
    assert as_object(Own([1]), format="object").keys() == {"value"}


def test_an_integer_of_too_many_digits_is_named() -> None:
    """Python itself refuses to write it."""
    with pytest.raises(SerializationError, match=r"\$\.n: an integer of more than 4,300 digits"):
        to_json({"n": 10**5000})
