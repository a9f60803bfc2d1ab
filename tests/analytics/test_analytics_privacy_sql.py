"""SQL statements without their values."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_cases import DIALECTS, LEAKING_STATEMENTS, SECRET

from rambla_py.analytics.privacy import PrivacySettings, QueryText, Scrubber

SCRUBBER = Scrubber(PrivacySettings(), salt=b"key")


@pytest.mark.parametrize("statement", LEAKING_STATEMENTS)
def test_no_value_is_recorded(statement: str) -> None:
    """In any dialect; in doubt there is no text."""
    for dialect in DIALECTS:
        assert SECRET not in str(SCRUBBER.query(statement, dialect))


@pytest.mark.parametrize(
    ("statement", "dialect", "text"),
    [
        ("SELECT a, 'x', 1.5e3, NULL FROM t", None, "SELECT a, ?, ?, NULL FROM t"),
        ("SELECT 0xDEADBEEF, 0b11", None, "SELECT ?, ?"),
        ("SELECT  a\n\tFROM t -- c\n WHERE b=1", None, "SELECT a FROM t WHERE b=?"),
        ("SELECT * FROM t WHERE a IN (1, -2, 'x') AND b = -5", None, "SELECT * FROM t WHERE a IN (?) AND b = ?"),
        ("SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))", None, "SELECT * FROM t WHERE (a, b) IN ((?))"),
        ("INSERT INTO t (a, b) VALUES (1, 2), (3, 4)", None, "INSERT INTO t (a, b) VALUES (?)"),
        (
            "INSERT INTO t VALUES (now(), 1), (now(), 2) RETURNING id",
            "postgresql",
            "INSERT INTO t VALUES (now(), ?) RETURNING id",
        ),
        (
            'SELECT "user".id FROM "user" WHERE "user"."order" = %(id_1)s LIMIT %(n)s',
            "postgresql",
            'SELECT "user".id FROM "user" WHERE "user"."order" = ? LIMIT ?',
        ),
        ("UPDATE t SET a=$1, b=:b, c=%s WHERE d=? AND e=?2", "sqlite", "UPDATE t SET a=?, b=?, c=? WHERE d=? AND e=?"),
        ("SELECT a::text, b->>'k' FROM t", "postgresql", "SELECT a::text, b->>? FROM t"),
        ("SELECT `a` FROM `t` WHERE b = \"x\" AND c = 'it\\'s'", "mysql", "SELECT `a` FROM `t` WHERE b = ? AND c = ?"),
        ("SELECT * FROM t WHERE a LIKE ? ESCAPE '\\'", "sqlite", "SELECT * FROM t WHERE a LIKE ? ESCAPE ?"),
        ("SELECT a FROM t FORMAT JSON", "clickhouse", "SELECT a FROM t FORMAT JSON"),
        ("CREATE TABLE IF NOT EXISTS user (a text DEFAULT 'x')", None, "CREATE TABLE IF NOT EXISTS user (a text DEFAULT ?)"),
        ("BEGIN", None, "BEGIN"),
        ("ROLLBACK TO SAVEPOINT sa_1", None, "ROLLBACK TO SAVEPOINT sa_1"),
        ("SELECT a FROM t ORDER BY a NULLS LAST FOR UPDATE SKIP LOCKED", None, None),
    ],
)  # fmt: skip
def test_statements_keep_their_form(statement: str, dialect: str | None, text: str | None) -> None:
    """``?`` for each value and placeholder, one for a list, one row of many; no comments."""
    assert SCRUBBER.query(statement, dialect).text == (text or statement)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("select 1", "SELECT"),
        ("/* SELECT */ -- x\n (INSERT INTO t VALUES (1))", "INSERT"),
        ("WITH a AS (SELECT 1), b AS (SELECT 2) UPDATE t SET x = 1", "UPDATE"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("SET x = 1", "SET"),
        ("SELECT 'open", "SELECT"),
        ("", "OTHER"),
        ("hunter2 says", "OTHER"),
        ("SELECTED", "OTHER"),
    ],
)
def test_types(statement: str, kind: str) -> None:
    """The first word that is no comment, if it is one of SQL; after WITH the statement's own."""
    assert SCRUBBER.query(statement, None).type == kind


def test_hashes_group_statements() -> None:
    """Statements that differ in values, lists, comments and whitespace only have one hash."""
    same = [
        "SELECT a FROM t WHERE b IN (1, 2)",
        "SELECT a  FROM t /* c */ WHERE b IN ('x')",
        "SELECT a FROM t WHERE b IN (%s, %s, %s)",
    ]
    hashes = {SCRUBBER.query(statement, "postgresql").hash for statement in same}
    assert len(hashes) == 1
    assert SCRUBBER.query("SELECT a FROM u WHERE b IN (1)", "postgresql").hash not in hashes
    # By another process too, and without a text.
    other = Scrubber(PrivacySettings(query_text=False), salt=b"other").query(same[0], "postgresql")
    assert other.text is None
    assert {other.hash} == hashes


def test_doubt_leaves_type_only() -> None:
    """What is long, or of an unknown dialect and with signs that dialects read differently."""
    assert SCRUBBER.query('SELECT "a"', None) == QueryText("SELECT", None, None)
    assert SCRUBBER.query("SELECT " + "a, " * 4_000 + "a", "sqlite") == QueryText("SELECT", None, None)
    for nothing in (None, 5, object(), b"\xff"):
        assert SCRUBBER.query(nothing, None) == QueryText("OTHER", None, None)
    assert SCRUBBER.query(b"SELECT 1", "no such dialect").text == "SELECT ?"
    assert SCRUBBER.query("SELECT 1", 5).text == "SELECT ?"  # type: ignore[arg-type]


def test_long_texts_are_cut() -> None:
    """At ``max_text``, as every string."""
    short = Scrubber(PrivacySettings(max_text=20), salt=b"key")
    assert short.query("SELECT aaaa, bbbb, cccc FROM t", None).text == "SELECT aaaa, bbbb, c…[cut]"


VALUES = st.one_of(
    st.text(min_size=1, max_size=20), st.text("'\\\"`$;-/*#(),= canry\n", min_size=1, max_size=20)
).map(lambda text: text.replace("\x00", ""))
TEMPLATES = [
    "SELECT a FROM t WHERE b = {} AND c = 'z'",
    "INSERT INTO t (a, b) VALUES ({}, {})",
    "UPDATE t SET a = {}, b = lower({}) WHERE c IN ({}, 'y')",
    'SELECT {} AS x, "t"."a" FROM "t"',
]


def quoted(value: str, dialect: str | None) -> str:
    """Return a literal as the driver of the dialect writes it."""
    if dialect in ("mysql", "clickhouse"):
        value = value.replace("\\", "\\\\")
    return "'" + value.replace("'", "''") + "'"


@given(VALUES, st.sampled_from(TEMPLATES), st.sampled_from(DIALECTS))
def test_no_literal_is_recorded(value: str, template: str, dialect: str | None) -> None:
    """Whatever a literal consists of: the text is the same for any, or there is none."""
    value = f"q{value}q8q{value}"
    text = SCRUBBER.query(template.replace("{}", quoted(value, dialect)), dialect).text
    assert text in (None, SCRUBBER.query(template.replace("{}", "'x'"), dialect).text)


@given(st.text("abq '\"\\`$;-/*#(),=\n1", max_size=40))
def test_what_sqlite_takes_for_a_literal_is_masked(text: str) -> None:
    """What SQLite itself returns as a string for ``SELECT`` and any text after it is not in what is recorded."""
    connection = sqlite3.connect(":memory:")
    try:
        row = connection.execute(f"SELECT {text}").fetchone()
    except (sqlite3.Error, sqlite3.Warning):
        row = None
    finally:
        connection.close()
    recorded = SCRUBBER.query(f"SELECT {text}", "sqlite").text or ""
    for value in row or ():
        if isinstance(value, str) and re.search("[abq1]", value):
            assert value not in recorded


@given(st.text(), st.sampled_from(DIALECTS))
def test_nothing_raises(text: str, dialect: str | None) -> None:
    """Whatever is given for a statement."""
    assert SCRUBBER.query(f"SELECT {text}", dialect).type == "SELECT"
    assert SCRUBBER.query(text, dialect).type.isalpha()


def test_without_sqlglot_there_is_no_text_and_a_warning() -> None:
    """One warning, with what to install; the type is still recorded."""
    program = (
        "import sys; sys.modules['sqlglot'] = None\n"
        "from rambla_py.analytics.privacy import PrivacySettings, Scrubber\n"
        "for _ in 1, 2: print(*Scrubber(PrivacySettings()).query('SELECT a FROM t'))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "SELECT None None\n" * 2
    assert done.stderr.count("pip install 'rambla-py[analytics]'") == 1
