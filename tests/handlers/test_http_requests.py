"""Tests of the requests of the ``http`` handler: paths, queries, headers."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.errors import (
    PermanentError,
)
from rambla_py.handlers._http.address import endpoint_of
from rambla_py.handlers.http.headers import id_text, message_headers
from rambla_py.handlers.http.request_path import target_of

BASE = endpoint_of("https://shop.test/in?v=1")


# -- targets ------------------------------------------------------------------------------------------------


@given(st.one_of(st.text(), st.lists(st.text(), max_size=4)))
def test_append_path_stays_below_the_path(append_path: str | list[str]):
    """Whatever is appended, the path begins with the connection's, holds what was given, and no dots."""
    try:
        target = target_of(BASE, append_path=append_path)
    except PermanentError:
        return
    path = urlsplit("https://shop.test" + target).path
    given = append_path if isinstance(append_path, list) else append_path.lstrip("/").split("/")
    wanted = ["", "in", *given] if append_path else ["", "in"]
    assert [unquote(segment) for segment in path.split("/")] == wanted
    assert not {".", ".."} & set(wanted)
    assert target.isascii()
    assert target.endswith("?v=1")


@given(st.text())
def test_merge_url_stays_on_the_server(merge_url: str):
    """Whatever is merged, it is refused or a path of the same server."""
    try:
        target = target_of(BASE, merge_url=merge_url)
    except PermanentError:
        return
    assert target.startswith("/")
    assert target.isascii()
    assert not {".", ".."} & {unquote(segment) for segment in target.partition("?")[0].split("/")}


@pytest.mark.parametrize(
    ("merge_url", "target"),
    [
        ("", "/in?v=1"),
        ("a", "/a"),
        ("/a/b?c=d", "/a/b?c=d"),
        ("?x=1", "/in?x=1"),
        ("https://shop.test/a", "/a"),
        ("https://shop.test:443/a", "/a"),
    ],
)
def test_merge_url(merge_url: str, target: str):
    """A URL is resolved as RFC 3986 has it."""
    assert target_of(BASE, merge_url=merge_url) == target


@pytest.mark.parametrize(
    "merge_url",
    [
        "http://shop.test/a",
        "https://shop.test:444/",
        "//x",
        "https://u:p@shop.test/",
        "a#b",
        "\\\\x",
        "ftp:x",
    ],
)
def test_merge_url_of_another_server(merge_url: str):
    """Another scheme, port, host or user is refused."""
    with pytest.raises(PermanentError):
        target_of(BASE, merge_url=merge_url)


@given(st.dictionaries(st.text(), st.text()))
def test_append_query_cannot_break_out(query: dict[str, str]):
    """Names and values of a query are quoted."""
    target = target_of(BASE, append_query=query)
    assert target.isascii()
    assert target.count("&") == len(query)
    assert "#" not in target
    assert " " not in target


# -- headers ------------------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_headers_are_one_line(name: str, value: str):
    """Whatever name and value are, they are refused or hold no end of line."""
    try:
        pairs = list(message_headers({name: value}))
    except PermanentError:
        return
    assert pairs[0][0].isascii()
    assert pairs[0][0].isprintable()
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in pairs[0][1].replace("\t", " "))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_are_kept_apart(message_id: str):
    """An id in a header is visible ASCII, and two ids are never the same there."""
    text = id_text(message_id)
    assert text.isascii()
    assert text == "" or (text.isprintable() and " " not in text)
    assert unquote(text) == message_id


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (5, "5"), (1.5, "1.5"), (True, "true"), (b"x", "x"), ({}, "{}")]
)
def test_header_values(value: object, text: str):
    """Numbers and bytes become text."""
    assert dict(message_headers({"X-A": value})).get("x-a") == text


def test_header_values_that_are_none():
    """What is no text and no JSON is no header, and the error names it."""
    with pytest.raises(PermanentError, match="header 'X-A'"):
        list(message_headers({"X-A": object()}))


@pytest.mark.parametrize(
    "options",
    [
        {"append_path": "bad\udcff"},
        {"append_path": ["bad\udcff"]},
        {"append_query": {"q": "bad\udcff"}},
        {"append_query": {"bad\udcff": 1}},
        {"merge_url": "/bad\udcff"},
    ],
)
def test_lone_surrogates_in_a_target(options: dict):
    """A lone surrogate is a permanent error that names the option, not a UnicodeError."""
    with pytest.raises(PermanentError, match=next(iter(options))):
        target_of(BASE, **options)


def test_lone_surrogates_in_ids_and_headers():
    """A lone surrogate in an id or a header is a permanent error that names the part."""
    with pytest.raises(PermanentError, match="the id"):
        id_text("bad\udcff")
    with pytest.raises(PermanentError, match="'X-A'"):
        list(message_headers({"X-A": "bad\udcff"}))


@pytest.mark.parametrize(
    "options",
    [
        {"append_path": "a" * 8_001},
        {"append_path": ["a" * 100] * 100},
        {"append_query": {"q": "a" * 8_001}},
        {"append_query": {"q": ["a" * 100] * 100}},
        {"append_query": {"q": 10**5_000}},
        {"merge_url": "/" + "a" * 8_001},
        {"append_path": "ü" * 2_000},
    ],
)
def test_targets_are_bounded(options: dict):
    """A path or query of more than 8,000 characters is a permanent error, which quotes none of it."""
    with pytest.raises(PermanentError) as refused:
        target_of(BASE, **options)
    assert len(str(refused.value)) < 200
