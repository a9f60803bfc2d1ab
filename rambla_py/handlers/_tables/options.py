"""Tables that a channel may write to, each with options of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from rambla_py._internal.import_paths import import_object
from rambla_py.errors import HandlerError
from rambla_py.handlers._tables.columns import Column, read_columns

__all__ = ["Given", "Indexes", "TableOptions", "TablePlan", "Tables", "plan_of", "read_tables"]

Indexes = list[str | list[str]]


class TableOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The options of one table of a channel; what is not set is the channel's."""

    columns: Annotated[
        dict[str, str] | list[str] | None,
        Meta(description="as columns of the channel, whose value is the default"),
    ] = None
    id_column: Annotated[str | None, Meta(description="as id_column of the channel")] = None
    json_column: Annotated[str | None, Meta(description="as json_column of the channel")] = None
    upsert: Annotated[bool | None, Meta(description="as upsert of the channel")] = None
    indexes: Annotated[Indexes | None, Meta(description="as indexes of the channel")] = None


Given = dict[str, TableOptions] | str | list[str]


class Tables(dict[str, TableOptions]):
    """The tables of a channel by name, in order, checked; the options of each are complete.

    Their text is short: options are compared by it.
    """

    def __repr__(self) -> str:
        return f"<tables {', '.join(self)}>"


class _Options(Protocol):
    """The options of a channel, which are those of its tables where these have none."""

    @property
    def columns(self) -> dict[str, str] | list[str] | None: ...

    @property
    def id_column(self) -> str: ...

    @property
    def json_column(self) -> str | None: ...


class TablePlan(NamedTuple):
    """What rows of a table consist of, and what ``create_table`` creates.

    ``unique`` is the column by which rows are replaced, or None; ``usual``: no option names columns.
    """

    name: str
    columns: tuple[Column, ...]
    unique: str | None = None
    indexes: tuple[tuple[str, ...], ...] = ()
    usual: bool = False


def read_tables(options: _Options, given: Given) -> Tables:
    """Return the tables of a channel's options, checked; raises ``ValueError``.

    >>> from rambla_py.handlers.sql.settings import SqlOptions
    >>> read_tables(SqlOptions(upsert=True), {"a": TableOptions(columns=["n"])})["a"].upsert
    True
    """
    listed = _listed(given)
    own = listed if isinstance(listed, dict) else dict.fromkeys(listed, TableOptions())
    if not all(own):
        raise ValueError("tables has an empty name")
    made = Tables({name: _merged(options, table) for name, table in own.items()})
    if not made:
        plan_of("", _merged(options, TableOptions()))
    for name, table in made.items():
        try:
            plan_of(name, table)
        except ValueError as error:
            raise ValueError(
                f"{error} (table {name!r})" if isinstance(listed, dict) else str(error)
            ) from None
    return made


def _listed(given: Any) -> list[str] | dict[str, TableOptions]:
    """Return the tables that were given, also in JSON or as ``module:NAME``; raises ``ValueError``."""
    lead = "tables"
    if isinstance(given, str):
        lead = f"tables = {given!r}"
        given = _named(given)
    found = dict(given) if isinstance(given, Mapping) else given
    try:
        return msgspec.convert(found, list[str] | dict[str, TableOptions])
    except msgspec.ValidationError as error:
        raise ValueError(f"{lead}: {error}") from error


def _named(text: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        # From an environment variable.
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(f"tables: expected JSON; {error}") from error
    if ":" not in text:
        raise ValueError(f"tables = {text!r} is not of the form 'module:NAME'")
    try:
        return import_object(text)
    except HandlerError as error:
        raise ValueError(f"tables: {error}") from error


def plan_of(name: str, options: TableOptions) -> TablePlan:
    """Return the plan of a table whose options have every value; raises ``ValueError``."""
    columns = read_columns(options)  # type: ignore[arg-type]  # an id_column that is None was replaced
    if options.upsert and not options.id_column:
        raise ValueError("upsert without an id_column")
    if not columns:
        raise ValueError("no columns; set columns, id_column or json_column")
    indexes = tuple((one,) if isinstance(one, str) else tuple(one) for one in options.indexes or ())
    _check_indexes(indexes, {column.name for column in columns})
    return TablePlan(
        name,
        tuple(columns),
        options.id_column if options.upsert else None,
        indexes,
        options.columns is None and options.json_column is None,
    )


def _merged(options: _Options, table: TableOptions) -> TableOptions:
    def of(name: str) -> Any:
        own = getattr(table, name)
        return getattr(options, name, None) if own is None else own

    return TableOptions(**{name: of(name) for name in TableOptions.__struct_fields__})


def _check_indexes(indexes: Sequence[Sequence[str]], names: set[str]) -> None:
    for index in indexes:
        if not index or len(set(index)) < len(index):
            raise ValueError(f"an index of {list(index)!r}; name each of its columns once")
        for name in index:
            if name not in names:
                raise ValueError(f"an index of {name!r}, which is not one of the columns")
