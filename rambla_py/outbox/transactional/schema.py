"""The tables of an outbox for an application's own migrations."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

from rambla_py.outbox.postgres import tables as postgres
from rambla_py.outbox.sqlite import tables as sqlite

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

__all__ = ["ddl", "drop_statements", "statements", "tables"]

_STATEMENTS: Final = {"postgresql": postgres.DDL, "sqlite": sqlite.DDL}
_TABLE: Final = re.compile(r"\s*CREATE TABLE (\w+) \(\n(.*?)\n\)(?: WITH \((.*)\))?\s*", re.DOTALL)
_MADE: Final = re.compile(r"\s*CREATE (TABLE|VIEW|TRIGGER|INDEX) (\w+)")
_INDEX: Final = re.compile(r"CREATE INDEX (\w+) ON (\w+) \((.*)\)")
_COLUMN: Final = re.compile(r"(\w+) ([a-z]+(?: precision|\[\])?)( GENERATED .*?IDENTITY)?(.*)")
_TYPES: Final = {
    "smallint": "SmallInteger",
    "integer": "Integer",
    "bigint": "BigInteger",
    "text": "Text",
    "bytea": "LargeBinary",
    "boolean": "Boolean",
    "double precision": "Double",
}


def ddl(dialect: Literal["postgresql", "sqlite"]) -> str:
    """Return the statements that make the tables, as one script. Raises ``ValueError`` for another dialect.

    >>> "CREATE TABLE rambla_message" in ddl("postgresql")
    True
    """
    return "".join(f"{statement.strip()};\n" for statement in statements(dialect))


def statements(dialect: str) -> tuple[str, ...]:
    """Return the statements that make the tables; raises ``ValueError``."""
    if dialect not in _STATEMENTS:
        raise ValueError(f"no outbox in a database of the kind {dialect!r}; known are postgresql and sqlite")
    return _STATEMENTS[dialect]


def drop_statements(dialect: str) -> tuple[str, ...]:
    """Return the statements that remove the tables, and the messages in them."""
    made = [found.groups() for one in statements(dialect) if (found := _MADE.match(one))]
    return tuple(f"DROP {kind} {name}" for kind, name in reversed(made) if kind in ("TABLE", "VIEW"))


def tables(metadata: MetaData) -> list[Table]:
    """Add the tables of a PostgreSQL outbox to SQLAlchemy's metadata, for Alembic, and return them.

    What they hold at first is written by the first process that delivers. On SQLite run ``ddl`` instead:
    metadata has no triggers.

    >>> from sqlalchemy import MetaData
    >>> [table.name for table in tables(MetaData())][:3]
    ['rambla_schema', 'rambla_message', 'rambla_dead']
    """
    sa: Any = sys.modules["sqlalchemy"]  # the caller's metadata is from there
    made: dict[str, Any] = {}
    for statement in postgres.DDL:
        if table := _TABLE.fullmatch(statement):
            name, body, storage = table.groups()
            options = {"postgresql_with": _options(storage)} if storage else {}
            made[name] = sa.Table(name, metadata, *_parts(sa, body), **options)
        elif index := _INDEX.fullmatch(statement):
            name, of, columns = index.groups()
            sa.Index(name, *(made[of].c[column] for column in columns.split(", ")))
    return list(made.values())


def _parts(sa: Any, body: str) -> Iterator[Any]:
    for line in body.splitlines():
        line = line.strip().removesuffix(",")
        if line.startswith("PRIMARY KEY"):
            yield sa.PrimaryKeyConstraint(*line[line.index("(") + 1 : -1].split(", "))
            continue
        found = _COLUMN.fullmatch(line)
        assert found is not None
        name, kind, generated, rest = found.groups()
        _, has_default, default = rest.partition(" DEFAULT ")
        yield sa.Column(
            name,
            _type(sa, kind),
            *([sa.Identity()] if generated else []),
            primary_key="PRIMARY KEY" in rest,
            nullable="NOT NULL" not in rest and "PRIMARY KEY" not in rest,
            server_default=sa.text(default) if has_default else None,
            autoincrement=bool(generated),
        )


def _type(sa: Any, kind: str) -> Any:
    if kind.endswith("[]"):
        return sa.ARRAY(_type(sa, kind[:-2]))
    return sa.DateTime(timezone=True) if kind == "timestamptz" else getattr(sa, _TYPES[kind])()


def _options(storage: str) -> dict[str, int]:
    pairs = (pair.split(" = ") for pair in storage.replace("\n", " ").split(","))
    return {name.strip(): int(value) for name, value in pairs}
