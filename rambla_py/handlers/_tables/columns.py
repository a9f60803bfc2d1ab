"""Sources of a row's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = ["Column", "read_columns"]

_REST = "rest"
_ALONE = frozenset({"id", "key", "headers", "payload"})
_WITH_PATH = frozenset({"headers", "payload"})


class _Options(Protocol):
    """The options that name columns."""

    @property
    def columns(self) -> Mapping[str, str] | Sequence[str] | None: ...

    @property
    def id_column(self) -> str: ...

    @property
    def json_column(self) -> str | None: ...


class Column(NamedTuple):
    """A column: name, source (``id``, ``key``, ``headers``, ``payload``, ``rest``) and the path in it.

    ``type`` is the type that ``create_table`` uses.
    """

    name: str
    source: str
    path: tuple[str, ...] = ()
    type: str = "text"

    @property
    def place(self) -> str:
        """The path to the value, for errors: ``$`` is the payload."""
        root = "$" if self.source in ("payload", _REST) else self.source
        return ".".join((root, *self.path))


def read_columns(options: _Options) -> list[Column]:
    """Return the columns of a channel's options; raises ``ValueError`` for an unknown source.

    >>> from rambla_py.handlers.sql.settings import SqlOptions
    >>> [column.name for column in read_columns(SqlOptions())]
    ['id', 'payload']
    >>> read_columns(SqlOptions(columns={"city": "payload.address.city"}))[1].path
    ('address', 'city')
    """
    given = options.columns
    listed = given if isinstance(given, Mapping) else {name: f"payload.{name}" for name in given or ()}
    columns = [_column(name, text) for name, text in listed.items()]
    if options.id_column and options.id_column not in listed:
        columns.insert(0, Column(options.id_column, "id", type="varchar(255)"))
    rest = options.json_column
    if rest is None:
        rest = "" if given is not None else "payload"
    if rest:
        if rest in {column.name for column in columns}:
            raise ValueError(f"the column {rest!r} is named twice: in columns or id_column, and json_column")
        columns.append(Column(rest, _REST, type="json"))
    return columns


def _column(name: str, text: str) -> Column:
    where, _, kind = (part.strip() for part in text.partition("::"))
    root, *path = where.split(".")
    if root not in _ALONE or (path and root not in _WITH_PATH) or not all(path):
        raise ValueError(
            f"the column {name!r} comes from {where!r}; "
            "known are id, key, headers.NAME, payload, payload.PATH"
        )
    usual = {"id": "varchar(255)", "headers": "text" if path else "json"}.get(root, "text")
    return Column(name, root, tuple(path), kind or usual)
