"""Tests of how ``${...}`` is replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.config.interpolation import InterpolationError, expand

VALUES = st.text().filter(lambda text: not text.endswith(("\n", "\r")))
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)


def no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def replaced(text: str, **environ: str) -> str:
    return expand(text, environ, no_file).text


@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_dollar_is_never_touched(text: str) -> None:
    """A string without a dollar sign comes out as it went in."""
    assert replaced(text) == text
    assert not expand(text, {}, no_file).whole


@given(st.text(alphabet="$ab{}:-?_ \n"))
def test_doubled_dollars_round_trip(text: str) -> None:
    """Any text whose dollars are doubled comes out as it was."""
    assert replaced(text.replace("$", "$$")) == text


@given(NAMES, VALUES, st.text(alphabet="ab}{ "), st.text(alphabet="ab}{ "))
def test_value_replaces_the_name(name: str, value: str, before: str, after: str) -> None:
    """A variable's value stands where its name stood, and is not read again."""
    text = before + "${" + name + "}" + after
    assert replaced(text, **{name: value}) == before + value + after


@given(NAMES, st.text(alphabet="ab: -?"))
def test_default_counts_when_unset_or_empty(name: str, default: str) -> None:
    """A default replaces a variable that is unset or empty."""
    text = "${" + name + ":-" + default + "}"
    assert replaced(text) == default
    assert replaced(text, **{name: ""}) == default
    assert replaced(text, **{name: "x"}) == "x"


def test_default_may_hold_a_variable() -> None:
    """A default may hold another ``${...}``."""
    assert replaced("${A:-${B:-c}/d}") == "c/d"
    assert replaced("${A:-${B:-c}/d}", B="b") == "b/d"


@pytest.mark.parametrize("text", ["cost: 5$", "$HOME", "a$b$c", "$ {A}"])
def test_lone_dollar_stays(text: str) -> None:
    """A dollar that is not followed by a brace is a dollar."""
    assert replaced(text) == text


def test_missing_variable_is_named() -> None:
    """A variable that is not set is an error that names it."""
    with pytest.raises(InterpolationError) as caught:
        replaced("x${NOPE}")
    assert caught.value.expected == "the environment variable NOPE"


@pytest.mark.parametrize("environ", [{}, {"NOPE": ""}])
def test_message_is_shown_when_unset_or_empty(environ: dict[str, str]) -> None:
    """``:?`` gives its message for a variable that is unset or empty."""
    with pytest.raises(InterpolationError) as caught:
        replaced("${NOPE:?ask the operators}", **environ)
    assert caught.value.hint == "ask the operators"


@pytest.mark.parametrize("text", ["${", "a${B", "${A:-${B}", "x${A:-$$}y${"])
def test_unclosed_brace_is_an_error(text: str) -> None:
    """A ``${`` without its brace is an error."""
    with pytest.raises(InterpolationError) as caught:
        replaced(text, A="a", B="b")
    assert caught.value.expected == "'}' after '${'"


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A B}", "${A-b}", "${A:b}", "${ A}"])
def test_unknown_form_is_an_error(text: str) -> None:
    """What is none of the forms is an error that lists them."""
    with pytest.raises(InterpolationError) as caught:
        replaced(text, A="a")
    assert "${NAME:-default}" in caught.value.expected


@pytest.mark.parametrize(("content", "text"), [("s\n", "s"), ("s\r\n", "s"), ("s", "s"), ("s\n\n", "s\n")])
def test_file_gives_its_text_without_the_last_newline(content: str, text: str) -> None:
    """``${file:PATH}`` is the file's text without the newline at its end."""
    expansion = expand("${file:/run/x}", {}, {"/run/x": content}.__getitem__)
    assert (expansion.text, expansion.contents, expansion.whole) == (text, (text,), True)


@pytest.mark.parametrize(("content", "text"), [("s\n", "s"), ("s\r\n", "s"), ("s\n\n", "s\n"), ("\n", "x")])
def test_variable_gives_its_value_without_the_last_newline(content: str, text: str) -> None:
    """``${NAME}`` follows the rule of files; what is empty then counts as empty."""
    expansion = expand("${A:-x}", {"A": content}, no_file)
    assert expansion.text == text
    assert expansion.names in ((("A", text),), ())


def test_file_that_cannot_be_read_is_an_error() -> None:
    """A file that is not there is an error with its path and the reason."""
    with pytest.raises(InterpolationError) as caught:
        replaced("${file:/run/x}")
    assert (caught.value.expected, caught.value.got) == (
        "a readable file '/run/x'",
        "no such file or directory",
    )


@pytest.mark.parametrize(
    ("text", "whole"),
    [("${A}", True), ("${A:-x}", True), ("${A}${A}", False), (" ${A}", False), ("$$", False)],
)
def test_whole_says_that_nothing_stands_beside(text: str, whole: bool) -> None:
    """Only a string that is one ``${...}`` and nothing else is whole."""
    assert expand(text, {"A": "a"}, no_file).whole is whole
