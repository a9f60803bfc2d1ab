"""Tests of the table ``[rambla.analytics]``: its keys, its errors, its schema, and the environment."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rambla_py.analytics import AnalyticsError, AnalyticsSettings
from rambla_py.analytics.environment import Arguments, arguments_of
from rambla_py.config import json_schema, load_config
from rambla_py.errors import ConfigError

CHANNELS: dict[str, Any] = {"null": {"channels": {"analytics": {}}}}


def settings(table: Any, environ: dict[str, str] | None = None) -> AnalyticsSettings:
    config = load_config({**CHANNELS, "rambla": {"analytics": table}}, environ=environ or {})
    found = config.rambla.analytics
    assert isinstance(found, AnalyticsSettings)
    return found


def test_the_table_is_read_whole() -> None:
    rule = {"action": "order_*", "tables": ["order_events"], "columns": {"total": "numeric(38, 9)"}}
    found = settings(
        {
            "service": "shop",
            "sample": {"api_request": 0.1},
            "trusted_proxies": ["10.0.0.0/8"],
            "rules": [rule],
        }
    )
    assert (found.service, found.rules[0].tables, found.retention_days) == ("shop", ["order_events"], None)
    assert (found.share_of("api_request"), found.share_of("api_error")) == (0.1, 1.0)


def test_without_the_table_there_are_no_settings() -> None:
    assert load_config(CHANNELS, environ={}).rambla.analytics is None


def test_the_environment_sets_keys_of_the_table() -> None:
    """``RAMBLA__ANALYTICS__`` means the table, also where there is none."""
    environ = {
        "RAMBLA__ANALYTICS__SERVICE": "shop",
        "RAMBLA__ANALYTICS__SAMPLE": "0.5",
        "RAMBLA__ANALYTICS__EXCLUDE_PATHS": '["/health*"]',
        "RAMBLA__ANALYTICS__PRIVACY__MAX_TEXT": "100",
    }
    found = load_config(CHANNELS, environ=environ).rambla.analytics
    assert (found.service, found.sample, found.exclude_paths, found.privacy.max_text) == (
        "shop",
        0.5,
        ["/health*"],
        100,
    )


def test_a_service_of_that_name_keeps_its_variables() -> None:
    config = load_config(
        {"analytics": {"handler": "null", "channels": {"orders": {}}}},
        environ={"RAMBLA__ANALYTICS__CHANNELS__ORDERS__COUNT": "3"},
    )
    assert config.services["analytics"].channels["orders"].count == 3


WRONG: list[tuple[Any, str]] = [
    ({"servce": "x"}, "rambla.analytics.servce: expected a known key, got 'servce'; did you mean 'service'?"),
    ({"rules": [{"acton": "a"}]}, "rambla.analytics.rules[0].acton: expected a known key"),
    ({"rules": [{"tables": ["x"], "columns": {"a": "numbr"}}]}, "columns.a: unknown type 'numbr'"),
    ({"rules": [{"columns": {"a": "text"}}]}, "columns without tables"),
    ({"trusted_proxies": ["10.0.0.0/99"]}, "'10.0.0.0/99', which is no address or network"),
    ({"sample": 2}, "rambla.analytics.sample: expected a number >= 0 and <= 1 or a table, got 2"),
    ({"retention_days": 0}, "rambla.analytics.retention_days: expected a number > 0"),
    ({"privacy": {"mod": "allow"}}, "rambla.analytics.privacy.mod"),
    (5, "rambla.analytics: expected a table, got 5"),
    (
        {"rules": [{"action": "*"}, {"action": "order_*", "tables": ["order_events"]}]},
        "no event reaches rules[1], nor its tables order_events: rules[0] comes first",
    ),
]


@pytest.mark.parametrize(("table", "problem"), WRONG, ids=str)
def test_a_wrong_table_is_refused_with_its_path(table: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(table)
    assert problem in str(caught.value)


def test_the_schema_has_the_table() -> None:
    """Editors complete its keys, those of rules too."""
    schema = json_schema()["$defs"]["rambla"]["properties"]["analytics"]
    assert set(AnalyticsSettings.__struct_fields__) == set(schema["properties"])
    assert all("description" in one for one in schema["properties"].values())


def test_a_configuration_without_the_table_imports_no_analytics() -> None:
    code = (
        "import sys; from rambla_py.config import load_config;"
        "load_config({'null': {'channels': {'a': {}}}}, environ={});"
        "print([name for name in sys.modules if name.startswith('rambla_py.analytics')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == "[]"


def test_arguments_of_a_tracker_come_from_the_environment() -> None:
    """An argument wins over its variable."""
    environ = {
        "RAMBLA_ANALYTICS_WRITE_KEY": "key",
        "RAMBLA_ANALYTICS_ENABLED": "yes",
        "RAMBLA_ANALYTICS_DEBUG": "off",
        "RAMBLA_ANALYTICS_BATCH_SIZE": "50",
        "RAMBLA_ANALYTICS_BATCH_TIMEOUT_S": "0.5",
        "RAMBLA_ANALYTICS_SAMPLE": "0.25",
    }
    assert arguments_of(Arguments(), environ) == Arguments("key", True, False, 50, 0.5, 0.25)
    given = Arguments("mine", False, True, 5, 1.0, 1.0)
    assert arguments_of(given, environ) == given


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RAMBLA_ANALYTICS_ENABLED", "perhaps"),
        ("RAMBLA_ANALYTICS_BATCH_SIZE", "0"),
        ("RAMBLA_ANALYTICS_BATCH_SIZE", "many"),
        ("RAMBLA_ANALYTICS_BATCH_TIMEOUT_S", "-1"),
        ("RAMBLA_ANALYTICS_SAMPLE", "nan"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(AnalyticsError, match=f"{variable}: .*; got .*{value}"):
        arguments_of(Arguments(), {variable: value})


@pytest.mark.parametrize(
    "given",
    [
        Arguments(batch_size=0),
        Arguments(batch_size=True),
        Arguments(sample={"api_request": 2}),
        Arguments(sample={"api_request": None}),  # type: ignore[dict-item]  # what is wrong with it
        Arguments(sample=-1),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(given: Arguments) -> None:
    with pytest.raises(AnalyticsError, match="expected"):
        arguments_of(given, {})
