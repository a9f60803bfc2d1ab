"""Placeholders of SQL text, by the lexical rules of each database, and the values for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.parameters import text_values
from rambla_py.sql.placeholders import Syntax, parse, tokens
from rambla_py.sql.registry import find_dialect

POSTGRES, MYSQL, SQLITE = (find_dialect(name).syntax for name in ("postgresql", "mysql", "sqlite"))
SYNTAXES = st.sampled_from([Syntax(), POSTGRES, MYSQL, SQLITE])
OPAQUE = ["'a:b?'", '"x?:y"', "`y?`", "-- c ? :d\n", "/* ? :a */", "::int"]
PIECES = st.sampled_from([*OPAQUE, "?", " and ", "(", ":n", ":m_2", "a[1:2]", ":=", "\\:z"])


@given(sql=st.lists(PIECES).map(" ".join), syntax=SYNTAXES)
def test_tokens_are_all_of_the_text(sql: str, syntax: Syntax):
    """Nothing of a statement is lost or changed by reading it."""
    assert "".join(token.text for token in tokens(sql, syntax)) == sql


@given(sql=st.text(), syntax=SYNTAXES)
def test_any_text_can_be_read(sql: str, syntax: Syntax):
    """Text that is not SQL can be read too."""
    assert "".join(token.text for token in tokens(sql, syntax)) == sql


@given(pieces=st.lists(PIECES), syntax=SYNTAXES)
def test_placeholders_are_counted_and_named(pieces: list[str], syntax: Syntax):
    """Placeholders are found outside quotes and comments only, in order."""
    found = parse(" ".join(pieces), syntax, positional=True)
    assert found.positional == pieces.count("?")
    assert found.names == tuple(dict.fromkeys(piece[1:] for piece in pieces if piece in (":n", ":m_2")))
    assert [f":p{at} " in found.text + " " for at in range(found.positional)] == [True] * found.positional


@given(pieces=st.lists(PIECES), syntax=SYNTAXES)
def test_sqlalchemy_finds_the_same_placeholders(pieces: list[str], syntax: Syntax):
    """The text for SQLAlchemy compiles to the given text, with the driver's placeholders."""
    import sqlalchemy
    from sqlalchemy.engine.default import DefaultDialect

    sql = " ".join(pieces)
    found = parse(sql, syntax)
    compiled = sqlalchemy.text(found.text).compile(dialect=DefaultDialect(paramstyle="named"))
    assert set(compiled.params) == set(found.names)
    assert str(compiled) == sql.replace("\\:z", ":z")


@pytest.mark.parametrize(
    ("sql", "syntax", "names"),
    [
        (r"select 'it\'s :no', :yes", MYSQL, ["yes"]),
        (r"select 'a\', :yes, 'b'", SQLITE, ["yes"]),
        (r"select E'it\'s :no', :yes", POSTGRES, ["yes"]),
        (r"select 'a\', :yes", POSTGRES, ["yes"]),
        ("select 1 /* a /* b */ :no */, :yes", POSTGRES, ["yes"]),
        ("select 1 /* a /* b */, :yes", MYSQL, ["yes"]),
        ("select 1 # :no\n, :yes", MYSQL, ["yes"]),
        ("select a # :yes", POSTGRES, ["yes"]),
        ("select 5--:yes", MYSQL, ["yes"]),
        ("select 5--:no", SQLITE, []),
        ("select [a:no], :yes", SQLITE, ["yes"]),
        ("select a[:yes]", POSTGRES, ["yes"]),
        ("select a[1:2], a[:3]", POSTGRES, []),
        ("select $$ :no $$, $x$ $$ :no $x$, :yes", POSTGRES, ["yes"]),
        ("select a$$, :yes, b$$", MYSQL, ["yes"]),
        ("select :a::int, b::text", POSTGRES, ["a"]),
        ("select @a := :b", MYSQL, ["b"]),
        ("select '{\"a\": 1}', '12:30', :größe", SQLITE, ["größe"]),
    ],
)
def test_lexical_rules(sql: str, syntax: Syntax, names: list[str]):
    """What is quoted or a comment differs between databases."""
    assert list(parse(sql, syntax).names) == names


@pytest.mark.parametrize(
    ("sql", "word", "writes"),
    [
        ("select 1", "select", False),
        ("  -- why\n INSERT into t", "insert", True),
        ("with a as (select 1) select * from a", "with", False),
        ("with a as (select 1) insert into t select * from a", "with", True),
        ("with a as (select 'insert') select * from a", "with", False),
        ("select * into t from s", "select", True),
        ("explain select 1", "explain", False),
        ("explain analyze delete from t", "explain", True),
        ("create table t (a int)", "create", True),
        ("pragma journal_mode", "pragma", False),
        ("", "", False),
        ("call pay(1)", "call", True),
        ("do $$ begin perform pay(1); end $$", "do", True),
        ("show tables", "show", False),
        ("-- nothing", "", False),
    ],
)
def test_what_a_statement_does(sql: str, word: str, writes: bool):
    """Its first word decides, and after WITH and EXPLAIN any word that is not quoted."""
    found = parse(sql, POSTGRES)
    assert (found.word, found.writes) == (word, writes)


REFUSED: list[tuple[str, Any, str]] = [
    ("insert into t values (?)", [["a", "b"]], "list of lists"),
    ("insert into t values (?, ?)", [[1, "a"], [2, "b"]], "execute_many"),
    ("update t set n = ?", (1, 99), "2 values for 1 placeholder"),
    ("update t set n = ? where id = ?", [1], "1 value for 2 placeholders"),
    ("update t set n = ?", [], "0 values for 1 placeholder"),
    ("update t set n = ?", None, "0 values for 1 placeholder"),
    ("update t set n = 1", [1], "1 value for 0 placeholders"),
    ("update t set n = ?", "a", "got str"),
    ("update t set n = ?", b"a", "got bytes"),
    ("update t set n = ?", {1}, "got set"),
    ("update t set n = ?", 1, "got int"),
    ("update t set n = ?", {"n": 1}, "write :name"),
    ("update t set n = ?", [{"n": 1}], "write :name"),
    ("update t set n = :n", [1], "has :n, and the values have no names"),
    ("update t set n = :n where id = ?", [1], "has :n, and the values have no names"),
    ("update t set n = :n", {"n": 1, "id": 99}, "'id' has no placeholder; those of the statement: :n"),
    ("update t set n = :n", {"m": 1}, "no value for :n"),
    ("update t set total = :total", {"totl": 1}, "did you mean it by 'totl'"),
    ("update t set n = :n", None, "no value for :n"),
    ("update t set n = :n", [], "no value for :n"),
    ("update t set n = :n", [{"n": 1}, {"n": 2, "m": 3}], "row 1: the value 'm'"),
    ("update t set n = :n", [{"n": 1}, {}], "row 1: no value for :n"),
    ("update t set n = :n", [{"n": 1}, 2], "mixes mappings"),
]


@pytest.mark.parametrize(("sql", "params", "reason"), REFUSED)
def test_values_that_do_not_correspond_are_refused(sql: str, params: Any, reason: str):
    """Every placeholder has one value, and every value one placeholder."""
    with pytest.raises(SqlStatementError) as caught:
        text_values(sql, params, SQLITE)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[1], [2, 3]], "row 1: 2 values for 1 placeholder"),
        ([[1], 2], "row 1 is a int"),
        ([[1], "2"], "row 1 is a str"),
        ([{"n": 1}], "write :name"),
        ({"n": 1}, "got dict"),
        ("ab", "got str"),
    ],
)
def test_rows_that_do_not_correspond_are_refused(rows: Any, reason: str):
    """``execute_many`` checks each row."""
    with pytest.raises(SqlStatementError) as caught:
        text_values("insert into t values (?)", rows, SQLITE, many=True)
    assert reason in str(caught.value)


@given(counts=st.tuples(st.integers(0, 4), st.integers(0, 4)), syntax=SYNTAXES)
def test_a_row_is_taken_if_its_values_are_as_many_as_the_placeholders(
    counts: tuple[int, int], syntax: Syntax
):
    """All values are sent, in their order, or none is."""
    placeholders, values = counts
    sql, row = f"insert into t values ({', '.join('?' * placeholders)})", list(range(values))
    if placeholders == values:
        _, sent, _ = text_values(sql, row, syntax)
        assert list((sent or {}).values()) == row  # type: ignore[union-attr]  # one row
    else:
        with pytest.raises(SqlStatementError):
            text_values(sql, row, syntax)


def test_a_question_mark_may_be_an_operator():
    """PostgreSQL has operators with a question mark: they stay as they are beside named placeholders."""
    sql = "select data ? 'a' from t where id = :id"
    assert text_values(sql, {"id": 1}, POSTGRES)[1] == {"id": 1}
    assert text_values("select data ? 'a' from t", None, POSTGRES)[1] is None
    assert "?" in parse(sql, POSTGRES).text
