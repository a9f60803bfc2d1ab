"""Values of the field's libraries as payloads: pydantic, attrs, numpy."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rambla_py as rambla
from rambla_py.errors import SerializationError
from rambla_py.handlers.memory import store
from rambla_py.serialization.capture import captured
from rambla_py.serialization.encoding import as_object, to_json


class Item(pydantic.BaseModel):
    """A model inside a model."""

    sku: str
    price: Decimal = Decimal("1.10")


class Order(pydantic.BaseModel):
    """A model with what JSON has no types for."""

    id: int = 1
    at: dt.datetime = dt.datetime(2026, 1, 1)
    folder: Path = Path("/orders")
    items: list[Item] = [Item(sku="a")]
    ratio: float = 0.5


class Tags(pydantic.RootModel[list[str]]):
    """A model that is a list."""


@attrs.define
class Box:
    """An attrs class with a model in it."""

    order: Order
    sizes: Any


def test_a_pydantic_model_is_written_as_it_dumps_itself() -> None:
    """Alone, in containers, in an attrs class; and as an object whose fields a table can take."""
    order = Order()
    dumped = order.model_dump(mode="json")
    assert json.loads(to_json([order, {"o": order}, Box(order, ())])) == [
        dumped,
        {"o": dumped},
        {"order": dumped, "sizes": []},
    ]
    assert json.loads(to_json(Tags(["a"]))) == ["a"]
    assert json.loads(to_json(as_object(order, format="object"))) == dumped


def test_a_value_that_json_cannot_hold_is_found_in_a_model() -> None:
    """Pydantic itself would write null."""
    with pytest.raises(SerializationError, match=r"\$\.order\.ratio: NaN"):
        to_json({"order": Order(ratio=float("nan"))})


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (np.int64(-5), -5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("é"), "é"),
        (np.bytes_(b"ab"), "YWI="),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(5), 5),
        (np.array([], dtype="f8"), []),
        (np.array([{"a": np.int8(1)}], dtype=object), [{"a": 1}]),
        (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
        (np.array(["2026-01-02"], dtype="datetime64[ns]"), ["2026-01-02T00:00:00.000000000"]),
        (np.array("2026-01-02", dtype="datetime64[D]"), "2026-01-02"),
        (np.timedelta64(5_000, "ns"), "PT0.000005S"),
    ],
    ids=str,
)
def test_a_value_of_numpy_is_written_as_plain_python_has_it(value: Any, form: Any) -> None:
    """Times of nanoseconds are not counted in integers, and lose nothing."""
    assert json.loads(to_json({"v": [value]})) == {"v": [form]}


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.array([1.0, np.inf]), "infinity"),
        (np.float32("nan"), "NaN"),
        (np.datetime64("NaT"), "NaT"),
        (np.timedelta64(1, "ns"), "parts of a microsecond"),
        (np.complex128(1), "type 'numpy.complex128'"),
        (np.longdouble(1), "type 'numpy.longdouble'"),
    ],
    ids=str,
)
def test_what_json_cannot_hold_of_numpy_is_refused(value: Any, got: str) -> None:
    """It is not rounded, and not counted in another unit."""
    with pytest.raises(SerializationError, match=got) as caught:
        to_json({"v": value})
    assert caught.value.path.startswith("$.v")


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_an_array_is_captured(values: list[int]) -> None:
    """Later changes to it have no effect."""
    array = np.array(values, dtype="i8")
    kept = captured({"v": [array]})
    array[:] = 0
    assert kept["v"][0].tolist() == values


def test_such_a_payload_is_taken_at_the_call(tmp_path: Path) -> None:
    """A file has the model as it was; a handler that takes the object gets a model of the same class."""
    path = tmp_path / "orders.jsonl"
    with rambla.Rambla(
        {
            "file": {"connections": {"one": {"path": str(path)}}, "channels": {"orders": {}}},
            "memory": {"connections": {"one": {"name": "models"}}, "channels": {"orders": {}}},
        }
    ) as app:
        order, amounts = Order(), np.array([1, 2])
        app.publish("orders", {"order": order, "amounts": amounts}).result(timeout_s=10)
        order.items.append(Item(sku="late"))
        amounts[0] = 9
    written = json.loads(path.read_text())
    assert written == {"order": Order().model_dump(mode="json"), "amounts": [1, 2]}
    (message,) = store("models").messages()
    assert message.payload["order"] == Order()
    assert message.payload["amounts"].tolist() == [1, 2]
