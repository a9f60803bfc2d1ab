"""Tests of how the command line reads messages out of lines, and options out of arguments."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.cli.csv_reader import csv_rows
from rambla_py.cli.message_reader import (
    BadLine,
    Item,
    Line,
    json_document,
    json_lines,
    key_at,
    plain_value,
)
from rambla_py.cli.option_values import read_option, read_options
from rambla_py.cli.record_reader import records


def without_raw(items: Iterable[Item]) -> list[Item]:
    """Return items without what bad lines hold."""
    return [item._replace(raw=None) if isinstance(item, BadLine) else item for item in items]


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()


@given(st.lists(st.dictionaries(st.text(), scalars)))
def test_every_json_line_comes_out_as_it_went_in(values: list[Any]) -> None:
    """What was written as JSON lines is read back, in order, with line numbers from one."""
    lines = [json.dumps(value).encode() + b"\n" for value in values]
    assert list(json_lines(lines)) == [Line(at, value) for at, value in enumerate(values, 1)]


def test_empty_lines_are_left_out_and_counted() -> None:
    """An empty line is no message, and the next one keeps its own number."""
    assert list(json_lines([b"\n", b" \r\n", b"1\r\n"])) == [Line(3, 1)]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """A file from Windows may begin with one."""
    assert list(json_lines([b"\xef\xbb\xbf[1]\n"])) == [Line(1, [1])]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"oops", "not JSON: invalid character (byte 0)"),
        (b'{"a": 1', "not JSON: truncated"),
        (b'{"a": 1} {"a": 2}', "not JSON: trailing characters (byte 10)"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
    ],
)
def test_a_line_that_is_not_json_is_bad_and_the_next_is_read(raw: bytes, reason: str) -> None:
    """The reason is reported without the value, and reading continues."""
    assert without_raw(json_lines([raw, b"1"])) == [BadLine(1, reason), Line(2, 1)]


def test_text_lines_are_not_read_as_json() -> None:
    """With ``text`` a line is sent as it stands, without its line end."""
    assert list(json_lines([b"42\n", b"a b\r\n"], text=True)) == [Line(1, "42"), Line(2, "a b")]


def test_csv_rows_are_dicts_of_strings_and_nulls() -> None:
    """The header names the columns; values are strings, empty ones null; a quoted one may have line breaks."""
    rows = csv_rows(["id,note\r\n", '1,"two\r\n', 'lines"\r\n', "2,\r\n"])
    assert list(rows) == [
        Line(2, {"id": "1", "note": "two\r\nlines"}, last=3),
        Line(4, {"id": "2", "note": None}),
    ]


@given(st.lists(st.lists(st.sampled_from(["", "NA", "\\N", "0", "x"]), min_size=2, max_size=2)))
def test_csv_fields_are_null_where_they_are_listed_as_null(rows: list[list[str]]) -> None:
    """Every field that is one of ``nulls`` is None, and every other is what the file says."""
    text = "".join(line + "\n" for line in ["a,b", *(",".join(row) for row in rows if row != [""])])
    found = [one.payload for one in csv_rows(text.splitlines(keepends=True), nulls=["NA", "\\N"])]  # type: ignore[union-attr]
    null = {"NA": None, "\\N": None}
    assert found == [{"a": null.get(a, a), "b": null.get(b, b)} for a, b in rows]


def test_a_row_of_another_width_is_bad() -> None:
    """Rows with too few or too many columns are reported, and the rest is read."""
    assert without_raw(csv_rows(["a;b\n", "1\n", "1;2;3\n", "1;2\n"], delimiter=";")) == [
        BadLine(2, "1 column, where the header has 2"),
        BadLine(3, "3 columns, where the header has 2"),
        Line(4, {"a": "1", "b": "2"}),
    ]


def test_a_quote_that_never_ends_is_reported_with_its_first_and_last_line() -> None:
    """An open quote swallows the lines behind it: the report says from where to where."""
    assert without_raw(csv_rows(["a,b\n", "1,2\n", '"3,4\n', "5,6\n"])) == [
        Line(2, {"a": "1", "b": "2"}),
        BadLine(3, "not CSV: unexpected end of data", 4),
    ]


def test_a_row_that_is_not_utf8_is_bad() -> None:
    """Bytes that were no UTF-8 arrive as surrogates, and do not get through as such."""
    assert without_raw(csv_rows(["a\n", "\udcff\n", "x\n"])) == [BadLine(2, "not UTF-8"), Line(3, {"a": "x"})]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "the file is empty"),
        (["a,,b\n"], "a column has no name"),
        (["a,b,a\n"], "'a' names more than one column"),
        (['a,"b\n'], "not CSV"),
        (["\udcff\n"], "not UTF-8"),
    ],
)
def test_a_header_that_cannot_be_used_ends_it(lines: list[str], reason: str) -> None:
    """Without names for the columns nothing can be read."""
    with pytest.raises(ValueError, match=reason):
        list(csv_rows(lines))


@pytest.mark.parametrize(
    ("payload", "path", "key"),
    [
        ({"id": "a"}, "id", "a"),
        ({"id": 0}, "id", "0"),
        ({"a": {"b": {"c": 7}}}, "a.b.c", "7"),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", "1"),
    ],
)
def test_a_key_is_a_text_or_a_whole_number_at_a_path(payload: Any, path: str, key: str) -> None:
    """Dots lead into objects, and a field whose name has dots goes first."""
    assert key_at(payload, path) == key


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "there is no field 'a.b'"),
        ({"a": 1}, "there is no field 'a.b'"),
        ([1], "there is no field 'a.b'"),
        ({"a": {"b": None}}, "is null"),
        ({"a": {"b": ""}}, "is empty"),
        ({"a": {"b": True}}, "is a boolean"),
        ({"a": {"b": 1.5}}, "is a number with a fraction"),
        ({"a": {"b": [1]}}, "is an array"),
        ({"a": {"b": {}}}, "is an object"),
    ],
)
def test_what_cannot_be_a_key_is_reported(payload: Any, reason: str) -> None:
    """A message without its key must not lose its order in silence."""
    with pytest.raises(ValueError, match=reason):
        key_at(payload, "a.b")


def test_the_elements_of_a_json_array_are_messages() -> None:
    """An array is a message for each element, numbered from one, and anything else is one message."""
    assert list(json_document(b'\xef\xbb\xbf[{"a": 1},\n 2]')) == [Line(1, {"a": 1}), Line(2, 2)]
    assert list(json_document(b'{"a":\n [1]}')) == [Line(1, {"a": [1]})]


def test_json_lines_in_a_json_file_are_reported_with_the_format_to_name() -> None:
    """Many tools write JSON lines under the name .json."""
    with pytest.raises(ValueError, match="--format jsonl"):
        list(json_document(b'{"a": 1}\n{"a": 2}\n'))


def test_a_record_has_its_message_and_its_target() -> None:
    """Id, key and headers come back; the target is the origin's, or else the one that wrote the record."""
    lines = [
        b'{"id": "1", "service": "file", "channel": "dead", "key": "k", "headers": {"h": 1}, "payload": null}',
        b'{"service": "file", "channel": "dead", "origin": {"target": "amqp.orders"}, "payload": [1]}',
        b'{"payload": {"payload": 2}, "more": true}',
    ]
    assert list(records(lines)) == [
        Line(1, None, options={"id": "1", "key": "k", "headers": {"h": 1}}, target="file.dead"),
        Line(2, [1], target="amqp.orders"),
        Line(3, {"payload": 2}),
    ]
    (exact,) = records([b'{"payload": 0.10000000000000000001}'])
    assert exact.payload == Decimal("0.10000000000000000001")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[1]", "not a record: Expected `object`, got `array`"),
        (b'{"id": 7, "payload": 1}', "not a record: Expected `str | null`, got `int` - at `$.id`"),
        (b'{"id": "7"}', "not a record: it has no 'payload'"),
        (b'{"file": "a.csv", "line": 2, "error": "no", "raw": ["x"]}', "correct it in its own file"),
        (b"oops", "not JSON: invalid character (byte 0)"),
    ],
)
def test_what_is_no_record_is_reported(raw: bytes, reason: str) -> None:
    """A payload is never guessed from something else."""
    (bad,) = records([raw])
    assert isinstance(bad, BadLine)
    assert reason in bad.reason


@given(scalars | st.lists(scalars))
def test_a_message_that_is_json_is_its_value(value: Any) -> None:
    """What parses as JSON is sent as that value; with ``text`` it is the text."""
    raw = json.dumps(value).encode()
    assert plain_value(raw) == value
    assert plain_value(raw, text=True) == raw.decode()
    assert plain_value(b"\xef\xbb\xbf" + raw) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("v=3", 3),
        ("v=1_000", 1000),
        ("v=1.5", 1.5),
        ("v=true", True),
        ("v=null", None),
        ('v="3"', "3"),
        ("v='3'", "3"),
        ("v=", ""),
        ("v=a=b", "a=b"),
        ("v=orders.paid", "orders.paid"),
        ("v=2026-11-21", "2026-11-21"),
        ("v=nan", "nan"),
        ("v=inf", "inf"),
        ("v=1\nw = 2", "1\nw = 2"),
        ('v={"a": [1]}', {"a": [1]}),
        ("v={a = 1}", {"a": 1}),
    ],
)
def test_option_values_are_json_or_toml_or_text(text: str, value: Any) -> None:
    """A number is a number, quotes make a string of it, and what is neither JSON nor TOML is a string."""
    assert read_option(text) == ("v", value)


@pytest.mark.parametrize("text", ["retries", "=3", " =3", ""])
def test_an_option_without_name_or_value_is_refused(text: str) -> None:
    """``--option`` takes name=value and nothing else."""
    with pytest.raises(ValueError, match="name=value"):
        read_option(text)


def test_the_last_of_an_option_wins() -> None:
    """As with every flag that a script may append to."""
    assert read_options(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}
