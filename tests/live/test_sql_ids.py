"""Tests of ids in tables that ``create_table`` makes, and in those that were there."""

from __future__ import annotations

from sql_worker import Base

NAMES = ["a", "A", "\u00e4", "\u00c4", "a ", "\u00e5", "a\u030a", "\u00df", "ss"]


def test_ids_compare_byte_by_byte(base: Base):
    """Case, accents, spaces at the end and forms of one letter make other ids."""
    with base.worker(create_table=True, upsert=True) as w:
        assert w.deliver([w.message(1, name) for name in NAMES]) == [None] * len(NAMES)
        assert w.deliver([w.message(2, name) for name in NAMES[:2]]) == [None] * 2
    assert {name for (name,) in base.rows("select id from {}")} == set(NAMES)
    assert len(base.rows()) == len(NAMES)


def test_an_id_of_another_name_and_type(base: Base):
    """A column that takes the id compares as the id column does, without a key too."""
    with base.worker(
        create_table=True, id_column="", columns={"name": "id::varchar(40)", "n": "payload.n::integer"}
    ) as w:
        assert w.deliver([w.message({"n": 1}, "a"), w.message({"n": 2}, "A")]) == [None, None]
    assert base.rows("select n from {} where name = 'a'") == [(1,)]


def test_a_table_of_another_collation_keeps_working(base: Base):
    """A table that was there is written to as it is."""
    base.make("id varchar(255) primary key, payload text")
    with base.worker(create_table=True, upsert=True) as w:
        assert w.deliver([w.message(1, "a"), w.message(2, "b"), w.message(3, "a")]) == [None] * 3
    assert dict(base.rows("select id, payload from {}")) == {"a": "3", "b": "2"}
