"""Payloads captured at the call, and ids."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import msgspec
import pytest
from delivery_target import live_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py._internal.message_ids import SharedId, draw_ids, new_id
from rambla_py.errors import SerializationError
from rambla_py.serialization.capture import MAX_LEVELS, captured

ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3)
PAYLOADS = st.recursive(
    ATOMS | st.sets(st.integers(), max_size=2) | st.binary(max_size=2).map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def scribble(value: Any) -> None:
    """Change every container inside a value."""
    if isinstance(value, dict):
        for item in value.values():
            scribble(item)
        value["changed"] = True
    elif isinstance(value, list | tuple):
        for item in value:
            scribble(item)
        if isinstance(value, list):
            value.append("changed")
    elif isinstance(value, set):
        value.add("changed")
    elif isinstance(value, bytearray):
        value.extend(b"changed")


def types_of(value: Any) -> Any:
    """Return the types of a value at every depth; the order in a set is not part of it."""
    if isinstance(value, dict):
        return dict, [(key, types_of(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    return type(value)


@given(PAYLOADS)
def test_no_change_of_the_original_reaches_what_was_captured(payload: Any) -> None:
    """It equals the payload as it was, of the same types, whatever is changed at any depth."""
    before = copy.deepcopy(payload)
    kept = captured(payload)
    scribble(payload)
    assert kept == before
    assert types_of(kept) == types_of(before)


@dataclasses.dataclass
class Order:
    """A dataclass that refuses to be copied in depth."""

    lines: list[int]
    extra: Any = None

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("called")

    def __copy__(self) -> Any:
        raise AssertionError("called")


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A dataclass without a dict."""

    lines: list[int]


class Struct(msgspec.Struct, frozen=True):
    """A msgspec struct."""

    lines: list[int]


@pytest.mark.parametrize("kind", [Order, Frozen, Struct])
def test_fields_of_models_are_captured(kind: Any) -> None:
    """A model becomes a copy whose containers are copied; no method of it is called."""
    lines = [1]
    kept = captured({"order": kind(lines)})
    lines.append(2)
    assert type(kept["order"]) is kind
    assert kept["order"].lines == [1]


class Row(NamedTuple):
    """A named tuple."""

    values: Any


def test_subclasses_become_the_plain_type_except_two() -> None:
    """``OrderedDict`` and ``defaultdict`` stay what they are."""

    class Special(dict):  # type: ignore[type-arg]
        pass

    kept = captured([Special(a=[1]), OrderedDict(b=[2]), defaultdict(list, c=[3]), Row([4]), Row(5)])
    assert [type(one) for one in kept] == [dict, OrderedDict, defaultdict, tuple, Row]


def test_other_objects_are_kept_by_reference() -> None:
    """Callables and objects without declared fields are not copied."""
    thing, function = object(), lambda: None
    kept = captured({"thing": thing, "function": function})
    assert kept["thing"] is thing
    assert kept["function"] is function


def test_cycles_and_deep_nesting_are_refused_with_a_path() -> None:
    """A container inside itself, and more than 1,000 levels."""
    cycle: dict[str, Any] = {"lines": []}
    cycle["lines"].append(cycle)
    with pytest.raises(SerializationError, match=r"\$\.lines\[0\]: a container that is inside itself"):
        captured(cycle)
    deep: list[Any] = []
    for _ in range(MAX_LEVELS - 1):
        deep = [deep]
    captured(deep)
    with pytest.raises(SerializationError, match="nested more than 1,000 levels deep"):
        captured([deep])


def test_ids_of_a_batch_are_those_that_a_look_gives() -> None:
    """A given id stays, targets of one message share one, and a look before or after changes nothing."""
    shared = SharedId()
    ids = [None, "given", shared, None, shared]
    fields: dict[str, Any] = {"target": None, "options": None, "policy": None}
    batch = [live_delivery(None, given_id=given_id, **fields) for given_id in ids]
    looked = batch[3].id
    draw_ids(batch)
    drawn = [one.given_id for one in batch]
    assert drawn[1] == "given"
    assert drawn[2] == drawn[4] == shared.value
    assert drawn[3] == looked
    assert len(set(drawn)) == 4
    assert drawn == [one.id for one in batch]


def test_a_forked_child_draws_other_ids() -> None:
    """The stock of ids is its parent's: the child starts with an empty one."""
    new_id()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, " ".join(new_id() for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = set(os.read(read, 4096).decode().split())
    os.close(read)
    os.close(write)
    assert len(theirs) == 20
    assert not theirs & {new_id() for _ in range(2_000)}
