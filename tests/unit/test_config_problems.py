"""Tests of the problems reported for a wrong configuration."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from config_handlers import HERE, Audit, Needy, Paired, Silent, problems, service
from msgspec import Struct

from rambla_py.config import load_config
from rambla_py.errors import ConfigError

TEN_MISTAKES = """
[rambla]
retires = 3

[rambla.options]
retries = "many"
levle = 1

[amqqp.channels.orders]

[audit]
handler = "config_handlers:Audit"
[audit.connections.main]
port = 99_999
[audit.channels.orders]
connection = "mian"
count = 0
overflow = "blok"
fallback = "othres"
options = { tabel = "x" }
[audit.channels.others]
options = { callbacks = { on_success = "no_such_module:function" } }
"""

TEN_ANSWERS = """\
the configuration has 12 problems:
  ten.toml:9: amqqp: expected a handler (KNOWN), or any name with handler = 'module:Class', got 'amqqp'; \
handler 'amqqp': unknown; did you mean 'amqp'?
  ten.toml:16: audit.channels.orders.connection: expected the name of one of [audit.connections], got 'mian'; \
did you mean 'main'?
  ten.toml:17: audit.channels.orders.count: expected an integer >= 1, got 0
  ten.toml:19: audit.channels.orders.fallback: expected the name of a channel, got 'othres'; \
did you mean 'others'?
  ten.toml:20: audit.channels.orders.options.tabel: expected an option that the handler declares, got 'tabel'; \
did you mean 'table'?
  ten.toml:18: audit.channels.orders.overflow: expected one of 'block', 'drop_newest', 'drop_oldest', 'raise', \
got 'blok'; did you mean 'block'?
  ten.toml:22: audit.channels.others.options.callbacks.on_success: expected a function, as 'module:function', \
got 'no_such_module:function'; cannot import 'no_such_module': No module named 'no_such_module'
  ten.toml:13: audit.connections.main.host: expected a string, got nothing
  ten.toml:14: audit.connections.main.port: expected an integer >= 1 and <= 65535, got 99999
  ten.toml:7: rambla.options.levle: expected an option that some handler declares, got 'levle'; \
did you mean 'level'?
  ten.toml:6: rambla.options.retries: expected an integer >= 0, got 'many'
  ten.toml:3: rambla.retires: expected a known key, got 'retires'; did you mean 'retries'?"""


def one(**tables: Any) -> str:
    """The only problem of these tables."""
    (problem,) = problems(**tables)
    return str(problem)


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    """A file with a dozen mistakes is refused as a whole, each with path, expected, got and nearest name."""
    with contextlib.chdir(tmp_path):
        Path("ten.toml").write_text(TEN_MISTAKES, "utf-8")
        with pytest.raises(ConfigError) as caught:
            load_config("ten.toml", environ={})
    lines = str(caught.value).splitlines()
    known = lines[[" amqqp:" in line for line in lines].index(True)]
    handlers = known[known.index("(") + 1 : known.index(")")]
    expected = TEN_ANSWERS.replace("KNOWN", handlers).splitlines()
    assert [lines[0], *sorted(lines[1:])] == [expected[0], *sorted(expected[1:])]


def test_unknown_option_in_the_defaults_has_the_nearest() -> None:
    """An option in ``[rambla.options]`` that no handler declares is a problem with the nearest name."""
    assert one(rambla={"options": {"levle": 1}}, audit=service()) == (
        "rambla.options.levle: expected an option that some handler declares, got 'levle'; "
        "did you mean 'level'?"
    )


def test_option_of_a_service_that_is_not_chosen_may_be_a_default() -> None:
    """A default option may be one that only a service declares which is not chosen this time."""
    tables = {"audit": service(), "silent": {"handler": Silent, "channels": {"a": {}}}}
    assert not problems(rambla={"options": {"level": 1}, "services": ["silent"]}, **tables)


def test_wrong_default_option_is_reported_once() -> None:
    """A wrong value in ``[rambla.options]`` is one problem, however many services take it."""
    assert one(rambla={"options": {"level": "x"}}, one=service(), two=service()).startswith(
        "rambla.options.level"
    )


@pytest.mark.parametrize("name", ["id", "key"])
def test_options_of_one_message_have_no_place_in_a_file(name: str) -> None:
    """``id`` and ``key`` are refused, with the place where they belong."""
    assert one(audit=service(options={name: "x"})) == (
        f"audit.channels.orders.options.{name}: expected an option that a configuration may set, "
        f"got '{name}'; give it with each message: publish(..., {name}=...)"
    )


def test_setting_among_the_options_names_its_place() -> None:
    """A channel's setting inside ``options`` is refused, with the right place."""
    assert one(audit=service(options={"count": 2})).endswith("write it beside options, not in it")


def test_required_option_must_be_in_the_channel() -> None:
    """An option without a default is a problem where no level gives it."""
    assert one(needy=service(Needy)) == (
        "needy.channels.orders.options.table: expected a string "
        f"(handler '{HERE}:Needy' requires it), got nothing"
    )
    assert not problems(rambla={"options": {"table": "x"}}, needy=service(Needy))


def test_options_that_do_not_fit_together() -> None:
    """What ``Options`` itself refuses is a problem of the channel."""
    assert one(paired=service(Paired, options={"low": 20})) == (
        "paired.channels.orders.options: expected compatible options, got low is above high"
    )


def test_bound_on_an_optional_value_is_honoured() -> None:
    """A bound on ``int | None`` applies to the number."""
    assert "expected an integer >= 1, got 0" in one(audit=service(options={"limit": 0}))
    assert not problems(audit=service(options={"limit": 1}))


def test_delay_must_be_less_than_expiry() -> None:
    """``delay_s >= expires_s`` is refused, wherever the two come from."""
    text = one(rambla={"options": {"expires_s": 5}}, audit=service(options={"delay_s": 5}))
    assert text == "audit.channels.orders.options.delay_s: expected less than expires_s (5), got 5"


def test_fallback_circle_is_shown() -> None:
    """Fallbacks that form a circle are refused, and the circle is shown."""
    table = service()
    table["channels"] = {"a": {"fallback": "b"}, "b": {"fallback": "c"}, "c": {"fallback": "b"}}
    assert one(audit=table).endswith("expected fallbacks without a cycle, got audit.b -> audit.c -> audit.b")


def test_fallback_may_be_a_channel_of_another_service() -> None:
    """A fallback may name a channel of any service."""
    assert not problems(one=service(fallback="spare"), two={"handler": Silent, "channels": {"spare": {}}})


def test_a_durable_channel_drops_nothing() -> None:
    """``overflow = "drop_*"`` is refused there."""
    assert one(
        rambla={"outbox": {"url": "sqlite:///o.db"}}, audit=service(durable=True, overflow="drop_oldest")
    ) == (
        "audit.channels.orders.overflow: expected 'block' or 'raise' on a durable channel, got 'drop_oldest'"
    )


def test_a_mapping_with_a_durable_channel_names_its_outbox() -> None:
    """There is no file beside which the outbox could be."""
    found = one(audit=service(durable=True))
    assert found.startswith("rambla.outbox.url: expected sqlite:///FILE")
    assert "channel audit.orders is durable" in found


@pytest.mark.parametrize(
    "url", ["mysql://db/x", "sqlite://", "sqlite:///", "rambla-outbox.db", "postgresql://"]
)
def test_an_outbox_has_the_url_of_a_journal(url: str) -> None:
    """An unknown scheme, and a url without a file or a host, is refused."""
    found = one(rambla={"outbox": {"url": url}}, audit=service())
    assert found.startswith(
        "rambla.outbox.url: expected sqlite:///FILE, sqlite:////FROM/THE/ROOT or postgresql"
    )


def test_a_password_in_the_url_of_an_outbox_does_not_show() -> None:
    """The problem has the url without it."""
    found = one(rambla={"outbox": {"url": "mysql://me:s3cr3t-w0rd@db/x"}}, audit=service())
    assert "s3cr3t-w0rd" not in found


@pytest.mark.parametrize("rate", ["100", "0/s", "a/s", "10/day", "/s", "-1/s", ""])
def test_wrong_rate_is_refused(rate: str) -> None:
    """A rate of another form, or of nothing, is refused with an example."""
    assert one(audit=service(rate_limit=rate)) == (
        f"audit.channels.orders.rate_limit: expected a rate like '100/s', '5/min' or '1000/h', got {rate!r}"
    )


def test_unknown_service_in_the_choice_has_the_nearest() -> None:
    """``services`` with an unknown name is refused with the nearest."""
    assert one(rambla={"services": ["audti"]}, audit=service()) == (
        "rambla.services[0]: expected a service of this configuration, got 'audti'; did you mean 'audit'?"
    )


def test_misspelt_rambla_is_recognised() -> None:
    """For a table ``[ramblah]`` the error suggests ``rambla``."""
    found = problems(ramblah={"channels": {}}, audit=service())
    assert [problem.hint for problem in found] == ["did you mean 'rambla'?"]


@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        ("config_handlers:Audti", "did you mean 'Audit'?"),
        ("nowhere_at_all:Audit", "cannot import 'nowhere_at_all'"),
        ("config_handlers:hook", "expected a subclass of rambla_py.Handler"),
        ("redsi", "did you mean 'redis'?"),
    ],
)
def test_wrong_handler_is_explained(handler: str, hint: str) -> None:
    """A handler that cannot be found is a problem at ``handler`` that says why."""
    text = one(audit={"handler": handler, "channels": {"orders": {}}})
    assert text.startswith("audit.handler: expected the name of a handler, or 'module:Class'")
    assert hint in text


def test_rest_is_checked_without_the_handler() -> None:
    """A service whose handler is unknown is checked as far as it can be."""
    found = problems(
        audit={"handler": "nope:Nope", "channels": {"a": {"count": 0, "options": {"retries": -1}}}}
    )
    assert [problem.path for problem in found] == [
        "audit.handler",
        "audit.channels.a.count",
        "audit.channels.a.options.retries",
    ]


def test_module_that_fails_to_import_is_a_problem(tmp_path: Path) -> None:
    """Whatever a handler's module raises when it is imported becomes a problem."""
    (tmp_path / "broken_handler_module.py").write_text("1 / 0", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        text = one(audit={"handler": "broken_handler_module:X", "channels": {"a": {}}})
    assert text.endswith("importing it raised ZeroDivisionError: division by zero")


def test_option_that_is_reserved_cannot_be_declared() -> None:
    """A handler that declares a reserved option is refused."""

    class Greedy(Silent):
        Options = type("Options", (Struct,), {"__annotations__": {"retries": int}, "retries": 3})

    assert one(greedy=service(Greedy)).endswith("Options declares 'retries', which is a reserved option")


@pytest.mark.parametrize(
    ("tables", "path"),
    [
        ({"audit": 5}, "audit"),
        ({"rambla": 5}, "rambla"),
        ({"rambla": {"options": 5}}, "rambla.options"),
        ({"audit": {"handler": Silent, "connections": 5, "channels": {"a": {}}}}, "audit.connections"),
        ({"audit": {"handler": Audit, "channels": {"a": 5}}}, "audit.channels.a"),
        ({"audit": {"handler": Silent, "options": [], "channels": {"a": {}}}}, "audit.options"),
        (
            {"audit": {"handler": Silent, "channels": {"a": {"options": {"backoff": 1}}}}},
            "audit.channels.a.options.backoff",
        ),
        ({"include": "x.toml"}, "include"),
    ],
)
def test_value_in_a_tables_place_is_a_problem(tables: dict[str, Any], path: str) -> None:
    """Where a table or a list belongs, anything else is one problem at its path."""
    assert [problem.path for problem in problems(**tables)] == [path]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"backoff": {"initial_s": -1}}, "backoff.initial_s"),
        ({"backoff": {"initial": 1}}, "backoff.initial"),
        ({"headers": {"a": object()}}, "headers.a"),
        ({"headers": 5}, "headers"),
        ({"priority": "hgh"}, "priority"),
        ({"serializer": "xml"}, "serializer"),
        ({"format": 1}, "format"),
        ({"expires_s": 0}, "expires_s"),
        ({"delay_s": True}, "delay_s"),
        ({"callbacks": {"on_fail": "a:b"}}, "callbacks.on_fail"),
        ({"callbacks": {"on_fatal": 5}}, "callbacks.on_fatal"),
        ({"callbacks": {"on_fatal": f"{HERE}:HERE"}}, "callbacks.on_fatal"),
    ],
)
def test_wrong_reserved_option_is_a_problem_at_its_place(options: dict[str, Any], path: str) -> None:
    """Each part of a reserved option is checked by itself."""
    assert [problem.path for problem in problems(audit=service(options=options))] == [
        f"audit.channels.orders.options.{path}"
    ]


def test_item_of_a_list_is_named_by_its_place() -> None:
    """A wrong item of a list is reported with its place."""
    table = service()
    table["connections"]["main"]["urls"] = ["a", 5, True]
    assert [problem.path for problem in problems(audit=table)] == [
        "audit.connections.main.urls[1]",
        "audit.connections.main.urls[2]",
    ]
