"""Hints of configuration errors: the right table, the right word, the line in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py import ConfigError, Handler, Rambla, handler_names, load_config
from rambla_py.config.toml_lines import line_of, lines_of


class Settings(msgspec.Struct):
    relay: str = "localhost"
    hostname: str = ""


class Options(msgspec.Struct):
    table: str = "events"


class Wordy(Handler[Any, Options, Settings]):
    Connection = Settings
    Options = Options

    def handle_publish(self, message: Any, options: Any, state: Any) -> None: ...


def hint_of(**tables: Any) -> str | None:
    """Return the hint of the only problem."""
    with pytest.raises(ConfigError) as caught:
        load_config(tables)
    (problem,) = caught.value.problems
    return problem.hint


def wordy(*, channel: Any = None, options: Any = None, connection: Any = None, **service: Any) -> Any:
    """Return the tables of one channel, each with extra keys."""
    table = {**(channel or {}), **({"options": options} if options else {})}
    return {"handler": Wordy, "connections": {"c": connection or {}}, "channels": {"o": table}, **service}


OPTION, CHANNEL = "it is an option: did you mean", "it is a setting of a channel: did you mean"


@pytest.mark.parametrize("name", ["retries", "table"])
def test_an_option_beside_the_options_names_its_table(name: str) -> None:
    """In a channel, a connection, a service, and in [rambla] for those that every handler has."""
    option = {name: "x"}
    assert hint_of(w=wordy(channel=option)) == f"{OPTION} {name} in [w.channels.o.options]?"
    assert hint_of(w=wordy(connection=option)) == f"{OPTION} {name} in [w.connections.c.options]?"
    assert hint_of(w=wordy(**option)) == f"{OPTION} {name} in [w.options]?"
    assert hint_of(rambla={"backoff": {}}, w=wordy()) == f"{OPTION} backoff in [rambla.options]?"


def test_a_setting_of_a_channel_elsewhere_names_its_table() -> None:
    """In a connection, a service, [rambla] and its options; the channel's own options say it their way."""
    setting = {"max_pending": 5}
    assert hint_of(w=wordy(connection=setting)) == f"{CHANNEL} max_pending in [w.channels.NAME]?"
    assert hint_of(w=wordy(**setting)) == f"{CHANNEL} max_pending in [w.channels.NAME]?"
    for rambla in (setting, {"options": setting}):
        assert hint_of(rambla=rambla, w=wordy()) == f"{CHANNEL} max_pending in [SERVICE.channels.NAME]?"
    assert "beside options" in (hint_of(w=wordy(options=setting)) or "")


def test_a_setting_of_a_connection_elsewhere_names_its_table() -> None:
    """In a channel, its options, and a service."""
    hint = "it is a setting of a connection: did you mean relay in [w.connections.NAME]?"
    assert hint_of(w=wordy(channel={"relay": "x"})) == hint
    assert hint_of(w=wordy(relay="x")) == hint
    assert "the connection's table" in (hint_of(w=wordy(options={"relay": "x"})) or "")


@pytest.mark.parametrize(
    ("table", "meant"),
    [({"connection": {"host": "x"}}, "relay"), ({"channel": {"workers": 2}}, "count")],
)
def test_another_word_for_a_key_finds_it(table: Any, meant: str) -> None:
    """Other libraries' words for the same, before the nearest spelling (``host`` is no ``hostname``)."""
    assert hint_of(w=wordy(**table)) == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("name", "meant"), [("rabbitmq", "amqp"), ("postgres", "sql"), ("webhook", "http"), ("Mail", "smtp")]
)
def test_another_word_for_a_handler_finds_it(name: str, meant: str) -> None:
    """As a service's name, or as its handler; what is meant exists."""
    assert meant in handler_names()
    for tables in ({"shop": {"handler": name, "channels": {"o": {}}}}, {name: {"channels": {"o": {}}}}):
        assert (hint_of(**tables) or "").endswith(f"did you mean {meant!r}?")


def test_a_service_without_channels_is_refused() -> None:
    """It could not publish anything: the place to add one is named."""
    for table in ({"handler": Wordy}, {"handler": Wordy, "channels": {}}):
        assert hint_of(w=table) == "add [w.channels.NAME]"


def test_overrides_are_laid_over_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table by table; what they do not name stays, and problems in them name them."""
    file = tmp_path / "rambla.toml"
    file.write_text(
        "[null.connections.c]\n[null.channels.o]\ncount = 2\nmax_pending = 7\n[null.channels.p]\n"
    )
    monkeypatch.setenv("RAMBLA__NULL__CHANNELS__O__COUNT", "3")
    monkeypatch.setenv("N", "9")
    over = {"null": {"channels": {"o": {"count": 4}, "q": {"count": "${N}"}}}}
    config = Rambla.from_toml(file, overrides=over).config
    counts = {name: channel.count for name, channel in config.services["null"].channels.items()}
    assert counts == {"o": 4, "p": 1, "q": 9}
    assert config.services["null"].channels["o"].max_pending == 7
    with pytest.raises(ConfigError, match=r"overrides: null\.channels\.o\.count"):
        load_config(file, overrides={"null": {"channels": {"o": {"count": 0}}}})


@pytest.mark.parametrize(("text", "number"), [("1_000", 1000), ("+7", 7), ("0x10", 16), ("12", 12)])
def test_numbers_of_the_environment_are_those_of_toml(text: str, number: int) -> None:
    """Whichever way TOML writes an integer."""
    environ = {"RAMBLA__NULL__CHANNELS__O__COUNT": text}
    config = load_config({"null": {"channels": {"o": {}}}}, environ=environ)
    assert config.services["null"].channels["o"].count == number


def test_a_variable_reaches_keys_with_two_underscores() -> None:
    """The longest key that fits is meant; without one, each part is a key."""
    environ = {"RAMBLA__NULL__CHANNELS__A__B__COUNT": "7", "RAMBLA__NULL__CHANNELS__A__COUNT": "5"}
    channels = (
        load_config({"null": {"channels": {"a__b": {}, "a": {}}}}, environ=environ).services["null"].channels
    )
    assert (channels["a__b"].count, channels["a"].count) == (7, 5)


def test_what_is_wrong_with_a_variable_or_a_secret_is_said(tmp_path: Path) -> None:
    """A variable without quotes, one among other text, a secret in other bytes than UTF-8."""
    (tmp_path / "secret").write_bytes("passwört".encode("latin-1"))
    file = tmp_path / "rambla.toml"
    for line, word in (
        ("count = ${N}", 'write it in quotes: "${N}"'),
        ('count = "1${N}"', "only a value that is all ${...} is converted"),
        ('fallback = "${file:secret}"', "text in UTF-8"),
    ):
        file.write_text(f"[null.channels.o]\n{line}\n")
        with pytest.raises(ConfigError) as caught:
            load_config(file, environ={"N": "5"})
        assert word in str(caught.value)


def test_problems_name_the_line_of_the_key_or_of_the_table_around_it(tmp_path: Path) -> None:
    """In the file that it came from: an included one, or a pyproject.toml."""
    (tmp_path / "base.toml").write_text("[null.channels.o]\n\ncount = 0\n")
    (tmp_path / "rambla.toml").write_text(
        'include = ["base.toml"]\n# a [comment]\n[null.channels]\no.countt = 1\n'
    )
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n[tool.rambla.null.channels.o]\ncount = 0\n")
    found = []
    for name in ("rambla.toml", "pyproject.toml"):
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / name)
        found += [(Path(one.file or "").name, one.line, one.path) for one in caught.value.problems]
    assert sorted(found) == [
        ("base.toml", 3, "null.channels.o.count"),
        ("pyproject.toml", 3, "null.channels.o.count"),
        ("rambla.toml", 4, "null.channels.o.countt"),
    ]


NAMES = st.sampled_from(["a", "b-c", "d_1", '"x.y"', "'z z'"])
VALUES = st.sampled_from(
    [
        "1",
        '"text # [no] \\" comment"',
        "'literal \\'",
        '"""\nmany\n[lines]\nk = 1 \\""" \n"""',
        "'''\n[raw]\n'''",
        "[\n  1, # ] one\n  [2],\n]",
        '{ inner = "}", more = [1] }',
        "1 # k = 2",
    ]
)


@given(st.lists(st.tuples(st.integers(), st.lists(st.tuples(NAMES, VALUES), max_size=4)), max_size=4))
def test_lines_are_found_whatever_the_values_look_like(tables: list[tuple[int, Any]]) -> None:
    """Strings of every kind, arrays over lines, comments and inline tables hide no key and make none up."""
    text, expected = "", {}
    for number, (blank, pairs) in enumerate(tables):
        text += "\n# [not.a.table]\n" if blank % 2 else ""
        expected["t", str(number)] = text.count("\n") + 1
        text += f"[t.{number}]  # = 1\n"
        for at, (name, value) in enumerate(pairs):
            expected["t", str(number), f"k{at}", name.strip("\"'")] = text.count("\n") + 1
            text += f" k{at}.{name}= {value}\n"
    found = lines_of(text)
    assert {path: found.get(path) for path in expected} == expected
    assert len([path for path in found if len(path) == 4]) == len(
        [path for path in expected if len(path) == 4]
    )
    for path, line in expected.items():
        dotted = ".".join(f'"{step}"' if "." in step else step for step in path)
        assert line_of(f"{dotted}[3]", found) == line
