"""Tests of what the environment does to a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_handlers import Selfmade, load, problems, service

from rambla_py.config import ChannelConfig, load_config


def orders(environ: dict[str, str] | None = None, **channel: Any) -> ChannelConfig:
    return load(environ, audit=service(**channel)).services["audit"].channels["orders"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "4", 4),
        ("lazy", "false", False),
        ("lazy", "0", False),
        ("lazy", "off", False),
        ("batch_timeout_s", "0.5", 0.5),
        ("batch_bytes", "null", None),
        ("overflow", "raise", "raise"),
    ],
)
def test_whole_variable_is_converted(key: str, text: str, value: Any) -> None:
    """A value that is wholly ``${...}`` is converted to the declared type."""
    assert getattr(orders({"X": text}, **{key: "${X}"}), key) == value
    assert getattr(orders(**{key: "${X:-" + text + "}"}), key) == value


def test_list_and_table_come_as_json() -> None:
    """A list or a table from outside is JSON."""
    table = service(options={"headers": "${HEADERS}"})
    table["connections"]["main"] |= {"urls": "${URLS}", "tls": "${TLS}"}
    environ = {"URLS": '["a", "b"]', "HEADERS": '{"a": 1}', "TLS": "yes"}
    channel = load(environ, audit=table).services["audit"].channels["orders"]
    assert (channel.settings.urls, channel.settings.tls, channel.headers) == (["a", "b"], True, {"a": 1})


def test_literal_must_have_the_type() -> None:
    """A literal text is no number, and the problem says how to mend it."""
    (problem,) = problems(audit=service(count="4"))
    assert str(problem) == (
        "audit.channels.orders.count: expected an integer >= 1, got '4'; write it without the quotes"
    )


def test_text_with_a_variable_in_it_is_a_text() -> None:
    """A string that only contains ``${...}`` stays a string."""
    (problem,) = problems({"X": "1"}, audit=service(count="${X}2"))
    assert (problem.path, problem.got) == ("audit.channels.orders.count", "'12'")


def test_wrong_value_from_outside_is_a_problem() -> None:
    """What cannot be converted is a problem like any other."""
    (problem,) = problems({"X": "many"}, audit=service(count="${X}"))
    assert (problem.expected, problem.got) == ("an integer >= 1", "'many'")


def test_missing_variables_are_all_reported_with_the_rest() -> None:
    """Every missing variable is reported, and the rest is checked."""
    found = problems(audit=service(count="${A}", max_pending="${B:?how many}", batch_size=0, rate_limit="${"))
    assert [problem.path.rpartition(".")[2] for problem in found] == [
        "count",
        "max_pending",
        "rate_limit",
        "batch_size",
    ]
    assert found[1].hint == "how many"


def test_values_from_outside_are_not_read_again() -> None:
    """A dollar in a variable's value is a dollar."""
    assert orders({"X": "${Y}"}, options={"mode": "a${X}"}).options.mode == "a${Y}"


def test_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    """The path in ``${file:...}`` is relative to the file that contains it."""
    (tmp_path / "mode.txt").write_text("slow\n", "utf-8")
    (tmp_path / "rambla.toml").write_text(
        '[audit]\nhandler = "config_handlers:Audit"\n[audit.connections.m]\nhost = "h"\n'
        '[audit.channels.orders]\noptions = { mode = "${file:mode.txt}" }',
        "utf-8",
    )
    config = load_config(tmp_path / "rambla.toml", environ={})
    assert config.services["audit"].channels["orders"].options.mode == "slow"


def test_override_wins_over_the_file() -> None:
    """``RAMBLA__...`` sets a value, converted to its type, whatever the file says."""
    assert orders({"RAMBLA__AUDIT__CHANNELS__ORDERS__COUNT": "8"}, count=2).count == 8


def test_last_newline_of_a_variable_is_left_out(tmp_path: Path) -> None:
    """Orchestrators add it; values by name, overrides and the path of the file follow one rule."""
    assert orders({"MODE": "slow\n"}, options={"mode": "${MODE}"}).options.mode == "slow"
    assert orders({"RAMBLA__AUDIT__CHANNELS__ORDERS__OPTIONS__MODE": "slow\r\n"}).options.mode == "slow"
    path = tmp_path / "rambla.toml"
    path.write_text("[rambla]\nretries = 3\n", "utf-8")
    assert load_config(environ={"RAMBLA_CONFIG": f"{path}\n"}).files == (str(path),)


def test_override_is_not_interpolated() -> None:
    """A value from the environment is taken as it is."""
    environ = {"RAMBLA__AUDIT__CHANNELS__ORDERS__OPTIONS__MODE": "${HOME}"}
    assert orders(environ).options.mode == "${HOME}"


def test_override_finds_keys_of_any_case() -> None:
    """A part of the name matches a key regardless of case, and ``_`` matches ``-``."""
    table = {
        "handler": "config_handlers:Silent",
        "connections": {"my-Host": {"Port": 1}},
        "channels": {"a": {}},
    }
    config = load(
        {"RAMBLA__BOX__CONNECTIONS__MY_HOST__PORT": "2", "RAMBLA__BOX__CHANNELS__NEW__COUNT": "3"}, Box=table
    )
    assert config.services["Box"].connections == {"my-Host": {"Port": "2"}}
    assert config.services["Box"].channels["new"].count == 3


def test_override_leaves_the_handlers_own_table_in_place() -> None:
    """A value from the environment is laid over what ``Handler.config()`` gives."""
    environ = {"RAMBLA__SELFMADE__CHANNELS__ORDERS__MAX_PENDING": "5"}
    channel = load(environ, selfmade={"handler": Selfmade}).services["selfmade"].channels["orders"]
    assert (channel.count, channel.max_pending) == (3, 5)


def test_override_of_an_unknown_key_is_refused_by_its_name() -> None:
    """A variable for an unknown setting is a problem that names the variable."""
    (problem,) = problems({"RAMBLA__AUDIT__CHANNELS__ORDERS__COUNTT": "8"}, audit=service())
    assert str(problem) == (
        "environment variable RAMBLA__AUDIT__CHANNELS__ORDERS__COUNTT: audit.channels.orders.countt: "
        "expected a known key, got 'countt'; did you mean 'count'?"
    )


def test_override_below_a_value_is_refused() -> None:
    """A variable whose name takes a value for a table is a problem."""
    (problem,) = problems({"RAMBLA__AUDIT__CHANNELS__ORDERS__COUNT__X": "8"}, audit=service(count=2))
    assert problem.path == "audit.channels.orders.count"


@pytest.mark.parametrize("name", ["RAMBLA__", "RAMBLA__AUDIT____X"])
def test_override_with_an_empty_part_is_refused(name: str) -> None:
    """A variable with an empty part in its name is a problem."""
    (problem,) = problems({name: "1"}, audit=service())
    assert problem.got == "an empty part in the name"


@pytest.mark.parametrize(("text", "enabled"), [("0", False), ("false", False), ("1", True)])
def test_rambla_enabled_is_the_switch(text: str, enabled: bool) -> None:
    """``RAMBLA_ENABLED`` wins over the file."""
    config = load({"RAMBLA_ENABLED": text}, rambla={"enabled": not enabled}, audit=service())
    assert config.rambla.enabled is enabled
