"""Tests of where a configuration is found, what it includes, and what comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from config_handlers import HERE, Audit, Selfmade, Silent, load, service

from rambla_py.config import Config, load_config
from rambla_py.errors import ConfigError
from rambla_py.registry import register_handler

AUDIT = f"""
[audit]
handler = "{HERE}:Audit"
[audit.connections.main]
host = "h"
[audit.channels.orders]
connection = "main"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty current folder."""
    with contextlib.chdir(tmp_path):
        yield tmp_path


def count(config: Config) -> int:
    return config.services["audit"].channels["orders"].count


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def refused(source: Path | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, environ=environ or {})
    return str(caught.value)


def test_places_are_looked_at_in_order(folder: Path) -> None:
    """``$RAMBLA_CONFIG`` wins over ``rambla.toml``, over ``config/rambla.toml``, over ``pyproject.toml``."""
    write(folder / "pyproject.toml", AUDIT.replace("[audit", "[tool.rambla.audit") + "count = 1")
    found = [count(load_config(environ={}))]
    for number, place in enumerate(("config/rambla.toml", "rambla.toml", "mine.toml"), start=2):
        write(folder / place, f"{AUDIT}count = {number}")
        environ = {"RAMBLA_CONFIG": "mine.toml"} if place == "mine.toml" else {}
        found.append(count(load_config(environ=environ)))
    assert found == [1, 2, 3, 4]


def test_nothing_found_says_where_it_looked(folder: Path) -> None:
    """Without any file the error names the places."""
    text = refused()
    assert "looked at $RAMBLA_CONFIG (not set), rambla.toml, config/rambla.toml and [tool.rambla]" in text
    assert str(folder) in text


def test_missing_file_says_where_it_looked(folder: Path) -> None:
    """A file that is not there is an error with its whole path."""
    assert refused(Path("nope.toml")) == (
        "the configuration has 1 problem:\n  nope.toml: configuration: expected a readable TOML file, "
        f"got no such file or directory; looked at {folder / 'nope.toml'}"
    )


def test_syntax_error_has_file_line_and_column(folder: Path) -> None:
    """A file that is no TOML is an error with file, line and column."""
    write(folder / "rambla.toml", "[amqp]\nurl = \n")
    assert (
        "rambla.toml: configuration: expected valid TOML, got Invalid value (at line 2, column 7)"
        in refused()
    )


def test_file_in_another_encoding_is_refused(folder: Path) -> None:
    """A file that is not UTF-8 is an error."""
    (folder / "rambla.toml").write_bytes(b'a = "\xff"')
    assert "expected text in UTF-8" in refused()


def test_byte_order_mark_is_skipped(folder: Path) -> None:
    """Some editors put one at the start: of the file, of one that it includes, of a secret."""
    mark = "\ufeff"
    write(folder / "mode.txt", f"{mark}slow\n")
    write(folder / "base.toml", f'{mark}{AUDIT}options = {{ mode = "${{file:mode.txt}}" }}\n')
    source = write(folder / "rambla.toml", f'{mark}include = ["base.toml"]\n')
    write(folder / "pyproject.toml", f'{mark}[tool.rambla]\ninclude = ["base.toml"]\n')
    for path in (source, folder / "pyproject.toml"):
        config = load_config(path, environ={})
        assert config.services["audit"].channels["orders"].options.mode == "slow"


def test_including_file_wins(folder: Path) -> None:
    """What a file says wins over what it includes; later includes win over earlier ones; tables merge."""
    write(folder / "sub/base.toml", f"{AUDIT}count = 1\nmax_pending = 1\nbatch_size = 1\n")
    write(folder / "sub/more.toml", "[audit.channels.orders]\ncount = 2\nmax_pending = 2\n")
    source = write(
        folder / "rambla.toml",
        'include = ["sub/base.toml", "sub/more.toml"]\n[audit.channels.orders]\ncount = 3\n',
    )
    config = load_config(source, environ={})
    channel = config.services["audit"].channels["orders"]
    assert (channel.count, channel.max_pending, channel.batch_size) == (3, 2, 1)
    assert config.files == (str(source), str(folder / "sub/base.toml"), str(folder / "sub/more.toml"))


def test_include_may_stand_in_rambla_and_be_interpolated(folder: Path) -> None:
    """``[rambla] include`` does the same, relative to the file that contains it, with ``${...}`` replaced."""
    write(folder / "sub/dev.toml", AUDIT + "count = 7")
    write(folder / "sub/rambla.toml", '[rambla]\ninclude = ["${STAGE:-prod}.toml"]')
    assert count(load_config("sub/rambla.toml", environ={"STAGE": "dev"})) == 7


def test_include_cycle_is_shown(folder: Path) -> None:
    """Files that include each other are an error that shows the circle."""
    write(folder / "a.toml", 'include = ["b.toml"]')
    write(folder / "b.toml", 'include = ["a.toml"]')
    assert "got a.toml -> b.toml -> a.toml" in refused(Path("a.toml"))


def test_missing_include_is_an_error_and_the_rest_is_checked(folder: Path) -> None:
    """An include that is not there is an error, and so is what else is wrong; what it may hold is not."""
    write(
        folder / "a.toml",
        'include = ["b.toml"]\n[audit]\nhandler = "config_handlers:Audit"\n'
        '[audit.connections.half]\n[audit.channels.x]\nconnection = "in_b"\nfallback = "in_b"\ncount = 0',
    )
    text = refused(Path("a.toml"))
    assert "the configuration has 2 problems" in text
    assert "b.toml: include: expected a readable TOML file, got no such file" in text
    assert "audit.channels.x.count: expected an integer >= 1, got 0" in text


def test_problem_names_the_file_the_value_came_from(folder: Path) -> None:
    """Each problem names the file that its value is in."""
    write(folder / "base.toml", AUDIT + "count = 0")
    write(folder / "rambla.toml", 'include = ["base.toml"]\n[audit.channels.orders]\nmax_pending = 0')
    text = refused()
    assert "  base.toml:8: audit.channels.orders.count:" in text
    assert "  rambla.toml:3: audit.channels.orders.max_pending:" in text


def test_same_channel_under_two_services_is_fan_out() -> None:
    """Several services may have a channel with the same name."""
    config = load(one=service(count=1), two=service(count=2))
    assert [s.channels["orders"].name for s in config.services.values()] == ["one.orders", "two.orders"]


def test_only_chosen_services_are_read() -> None:
    """``services`` restricts to those named; the others are not even interpolated."""
    config = load(rambla={"services": ["one"]}, one=service(), two=service(fallback="${NOPE}"))
    assert list(config.services) == ["one"]


def test_only_connection_may_be_left_out() -> None:
    """A channel need not name its connection where there is only one, or none is needed."""
    one = {"handler": Audit, "connections": {"only": {"host": "h"}}, "channels": {"orders": {}}}
    none = {"handler": Silent, "channels": {"orders": {}}}
    config = load(one=one, none=none)
    assert config.services["one"].channels["orders"].connection == "only"
    assert config.services["none"].channels["orders"].settings == {}


def test_handler_gives_the_table_where_the_file_has_none() -> None:
    """``Handler.config()`` supplies connections and channels if the file has none; its options stay."""
    config = load(selfmade={"handler": Selfmade, "options": {"retries": 1}})
    channel = config.services["selfmade"].channels["orders"]
    assert (channel.count, channel.settings, channel.policy.retries) == (3, {"host": "built-in"}, 1)


def test_the_file_is_laid_over_the_handlers_own_table() -> None:
    """Table by table: what the file does not set stays as ``Handler.config()`` has it."""
    tables = {"channels": {"mine": {}, "orders": {"count": 2}}, "connections": {"own": {"port": 9}}}
    service = load(selfmade={"handler": Selfmade, **tables}).services["selfmade"]
    assert list(service.channels) == ["orders", "mine"]
    assert service.channels["orders"].count == 2
    assert service.channels["mine"].settings == {"host": "built-in", "port": 9}


def test_registered_handler_needs_no_handler_line() -> None:
    """A service with the name of a registered handler has that handler."""
    register_handler("silent_of_this_test", Silent)
    config = load(silent_of_this_test={"channels": {"orders": {}}})
    assert config.services["silent_of_this_test"].handler is Silent


def test_connection_is_the_declared_struct() -> None:
    """A connection's table becomes the handler's ``Connection``, nested tables and secrets in it too."""
    table = service()
    table["connections"]["main"] |= {"password": "geheim", "tls": {"ca_file": "ca.pem"}, "urls": ["a", "b"]}
    settings = load(audit=table).services["audit"].channels["orders"].settings
    assert isinstance(settings, Audit.Connection)
    assert (settings.password.reveal(), settings.tls.ca_file, settings.urls) == (
        "geheim",
        "ca.pem",
        ["a", "b"],
    )


def test_rate_is_per_second() -> None:
    """``rate_limit`` is there as attempts a second."""
    rates = [load(audit=service(rate_limit=text)) for text in ("100/s", "6/min", "7200/h")]
    assert [c.services["audit"].channels["orders"].rate_per_s for c in rates] == [100.0, 0.1, 2.0]


def test_callbacks_are_imported() -> None:
    """A callback's path becomes the function."""
    table = service(options={"callbacks": {"on_success": f"{HERE}:hook"}})
    callbacks = load(audit=table).services["audit"].channels["orders"].policy.callbacks
    assert callbacks.on_success.__name__ == "hook"


@pytest.mark.parametrize("name", ["rambla", "broker", "development", "test", "production"])
def test_sample_files_are_right(name: str, tmp_path: Path) -> None:
    """Every sample under ``config/`` loads, given the environment variables that it uses."""
    write(tmp_path / "rabbitmq_password", "geheim\n")
    environ = {
        "SECRETS_DIR": str(tmp_path),
        "RABBITMQ_URL": "amqp://shop@broker/",
        "REDIS_URL": "redis://cache:6379/0",
    }
    config = load_config(Path(__file__).parents[2] / "config" / f"{name}.toml", environ=environ)
    assert any("flights" in found.channels for found in config.services.values())
