"""Payloads that ``publish`` checks by the schema of their channel."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
from pathlib import Path
from typing import Annotated, Any, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_apps import TIMEOUT_S

import rambla_py as rambla
from rambla_py import ConfigError, PayloadError, Rambla
from rambla_py.handlers.memory import store

HERE = f"{__name__}:"


class Kind(enum.Enum):
    """A value of a choice."""

    NEW = "new"


@dataclasses.dataclass
class Line:
    """Part of an order."""

    sku: str
    kind: Kind = Kind.NEW


class Order(msgspec.Struct):
    """An order as a struct."""

    id: Annotated[int, msgspec.Meta(ge=1)]
    lines: list[Line] = []


class Fields(TypedDict):
    """An order as a dict."""

    id: int
    lines: list[Line]


@attrs.define
class Box:
    """An order as an attrs class."""

    id: int
    lines: list[Line] = attrs.field(factory=list)


class Model(pydantic.BaseModel):
    """An order as a pydantic model."""

    id: int
    lines: list[Line] = []
    note: str = ""

    @pydantic.field_validator("note")
    @classmethod
    def _no_secrets(cls, value: str) -> str:
        if "4711" in value:
            raise ValueError(f"{value} is secret")
        return value


class Plain:
    """A class that declares nothing."""


JSON_SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "lines": {"type": "array", "items": {"$ref": "line.json"}}},
    "required": ["id"],
}
LINE = {"type": "object", "properties": {"sku": {"type": "string"}, "kind": {"enum": ["new"]}}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a JSON Schema that refers to another; an editor has put a byte order mark into one."""
    (tmp_path / "order.json").write_text("\ufeff" + json.dumps(JSON_SCHEMA), "utf-8")
    (tmp_path / "line.json").write_text(json.dumps(LINE), "utf-8")
    return tmp_path


def config(schema: str, **channel: Any) -> dict[str, Any]:
    connections = {"one": {"name": "schemas"}}
    return {"memory": {"connections": connections, "channels": {"orders": {"schema": schema, **channel}}}}


def refused(app: Rambla, payload: Any, **options: Any) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        app.publish("orders", payload, **options)
    assert not caught.value.retryable
    return caught.value


SCHEMAS = [f"{HERE}{name}" for name in ("Order", "Fields", "Box", "Model")] + ["order.json"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_payload_is_checked_with_its_path(schema: str, folder: Path) -> None:
    """The error names the place, the channel, and no value of the payload; nothing was accepted."""
    reference = str(folder / schema) if schema.endswith(".json") else schema
    good = {"id": 1, "lines": [{"sku": "a", "kind": "new"}]}
    with Rambla(config(reference)) as app:
        for payload in (good, json.dumps(good), json.dumps(good).encode(), Order(1), Order(1, [Line("a")])):
            if schema != f"{HERE}Fields" or not isinstance(payload, Order):
                app.publish("orders", payload).result(timeout_s=TIMEOUT_S)
        accepted = app.audit()["memory.orders"].accepted
        for payload, path in (
            ({"id": "4711", "lines": []}, "$.id"),
            ({"id": 1, "lines": [{"sku": 4711}]}, "$.lines[0].sku"),
            ({"id": 1, "lines": [{"sku": "a"}, {"sku": "a", "kind": "4711"}]}, "$.lines[1].kind"),
            (b'{"id": 1, "lines": "4711"}', "$.lines"),
            ('"4711"', "$"),
            ("4711!", "$"),
            (b"\xff4711", "$"),
            ([4711], "$"),
        ):
            error = refused(app, payload)
            assert error.path == path
            assert "memory.orders" in str(error)
            assert "4711" not in str(error)
        assert app.audit()["memory.orders"].accepted == accepted


def test_a_validator_of_the_application_is_not_quoted() -> None:
    """Its error may hold the value."""
    with Rambla(config(f"{HERE}Model")) as app:
        error = refused(app, {"id": 1, "note": "4711"})
    assert (error.path, error.reason) == ("$.note", "refused by a validator")


def test_a_payload_is_sent_as_it_was() -> None:
    """It is checked, not converted: no default is filled in, and no object becomes another."""
    store("schemas").clear()
    with Rambla(config(f"{HERE}Order")) as app:
        app.publish_many("orders", [{"id": 1}, Order(2)]).result(timeout_s=TIMEOUT_S)
    assert [message.payload for message in store("schemas").messages()] == [{"id": 1}, Order(2)]


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_one_payload_of_many_refuses_all(fits: list[bool]) -> None:
    """``publish_many`` accepts nothing if one of its messages does not fit."""
    payloads = [{"id": 1 if good else "x"} for good in fits]
    with Rambla(config(f"{HERE}Order", lazy=False)) as app:
        if all(fits):
            app.publish_many("orders", payloads).result(timeout_s=TIMEOUT_S)
        else:
            with pytest.raises(PayloadError):
                app.publish_many("orders", payloads)
        assert app.audit()["memory.orders"].accepted == (len(fits) if all(fits) else 0)


def test_every_way_to_publish_checks() -> None:
    """Bound options, a message with options, an envelope, several channels, the awaitable form."""
    tables = config(f"{HERE}Order", envelope=["key"])
    tables["null"] = {"channels": {"orders": {}}}
    with Rambla(tables) as app:
        bad: dict[str, Any] = {"id": "x"}
        ways = [
            lambda: app.channel("orders", key="k").publish(bad),
            lambda: app.publish("orders", rambla.Message(bad, key="k")),
            lambda: app.publish("orders", {"message": bad, "key": "k"}),
            lambda: app.publish(["memory.orders", "null.orders"], bad),
            lambda: app.publish("orders", bad, id="1"),
            lambda: asyncio.run(_publish_async(app, bad)),
        ]
        for way in ways:
            with pytest.raises(PayloadError):
                way()
        assert [account.accepted for account in app.audit().values()] == [0, 0]
        app.publish("orders", {"message": {"id": 1}, "key": "k"}).result(timeout_s=TIMEOUT_S)
        app.publish("null.orders", bad).result(timeout_s=TIMEOUT_S)


async def _publish_async(app: Rambla, payload: Any) -> None:
    await app.publish_async("orders", payload)


def test_a_callable_is_not_checked() -> None:
    """A worker calls it, and no payload is known before."""
    with Rambla(config(f"{HERE}Order")) as app:
        assert app.publish("orders", lambda **given: 7).result(timeout_s=TIMEOUT_S) == 7


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("order", '"module:Type"'),
        ("no_such_module:Order", "cannot import"),
        (f"{HERE}Ordr", "did you mean 'Order'"),
        (f"{HERE}Plain", "declares no fields"),
        (f"{HERE}config", "can check"),
        ("gone.json", "no such file"),
        ("broken.json", "a JSON Schema"),
        ("wrong.json", "a valid JSON Schema"),
        ("remote.json", "is not a file"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_problem(schema: str, text: str, folder: Path) -> None:
    """It is found when the configuration is read, at its path; no URL is fetched."""
    (folder / "broken.json").write_text("{")
    (folder / "wrong.json").write_text('{"type": "objct"}')
    (folder / "remote.json").write_text('{"$ref": "http://127.0.0.1:9/order.json"}')
    with pytest.raises(ConfigError) as caught:
        Rambla(config(str(folder / schema) if schema.endswith(".json") else schema))
    (problem,) = caught.value.problems
    assert problem.path == "memory.channels.orders.schema"
    assert text in str(problem)


def test_a_schema_file_is_relative_to_the_configuration(folder: Path) -> None:
    """As files of secrets are."""
    (folder / "rambla.toml").write_text('[memory.channels.orders]\nschema = "order.json"\n')
    with Rambla.from_toml(folder / "rambla.toml") as app:
        assert refused(app, {}).path == "$"
