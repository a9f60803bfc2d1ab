"""Tests of the JSON Schema of a configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from config_handlers import Audit, Open

from rambla_py.config import json_schema
from rambla_py.registry import register_handler


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema, with two handlers of our own among the known ones."""
    register_handler("schema_audit", Audit)
    register_handler("schema_open", Open)
    return json_schema()


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in refs(value)]
    return [ref for value in node for ref in refs(value)] if isinstance(node, list) else []


def test_schema_is_json(schema: dict[str, Any]) -> None:
    """The schema is JSON, of the dialect of 2020-12."""
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    """Each ``$ref`` names a definition that is there."""
    names = {ref.removeprefix("#/$defs/") for ref in refs(schema)}
    assert names
    assert names <= set(schema["$defs"])


def test_options_are_closed_where_unknown_names_are_refused(schema: dict[str, Any]) -> None:
    """A handler's options allow what it declares and what is reserved, and nothing else unless it is open."""
    audit, free = schema["$defs"]["schema_audit.options"], schema["$defs"]["schema_open.options"]
    assert {"table", "level", "from", "retries", "headers"} <= set(audit["properties"])
    assert not {"id", "key", "from_"} & set(audit["properties"])
    assert (audit["additionalProperties"], free["additionalProperties"]) == (False, True)


def test_interpolation_is_allowed_for_every_type(schema: dict[str, Any]) -> None:
    """Where a number is declared, ``${...}`` is allowed too."""
    port = schema["$defs"]["schema_audit.connection"]["properties"]["port"]
    assert port == {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": r"^\$\{.*\}$"},
        ],
        "default": 5432,
    }


def test_options_of_a_channel_only_are_marked(schema: dict[str, Any]) -> None:
    """An option that is set per channel says so, with its text."""
    properties = schema["$defs"]["schema_audit.options"]["properties"]
    assert properties["table"]["x-rambla-per"] == "channel"
    assert properties["table"]["description"] == "the table that rows go to"
    assert "x-rambla-per" not in properties["level"]


def test_secret_is_a_text(schema: dict[str, Any]) -> None:
    """A secret is written as a string."""
    password = schema["$defs"]["schema_audit.connection"]["properties"]["password"]
    assert {"type": "string"} in password["anyOf"]


def test_nested_table_is_defined_under_its_handler(schema: dict[str, Any]) -> None:
    """A table within a connection is defined by itself, and closed."""
    tls = schema["$defs"]["schema_audit.Tls"]
    assert (set(tls["properties"]), tls["additionalProperties"]) == ({"ca_file", "verify"}, False)


def test_services_of_users_need_a_handler(schema: dict[str, Any]) -> None:
    """A table of any other name is a service when it names its handler."""
    assert schema["additionalProperties"] == {"$ref": "#/$defs/service"}
    assert schema["$defs"]["service"]["required"] == ["handler"]
