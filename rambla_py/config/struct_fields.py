"""Fields of msgspec structs, with types that msgspec can convert to."""

from __future__ import annotations

import types
from typing import Annotated, Any, Final, TypeGuard, Union, get_args, get_origin
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Meta

__all__ = ["Field", "bare", "fields_of", "is_struct", "usable"]

_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")
# Reading a struct evaluates its annotations, which takes longer than the rest of a configuration.
_declared: WeakKeyDictionary[type[msgspec.Struct], list[tuple[msgspec.structs.FieldInfo, Any]]] = (
    WeakKeyDictionary()
)


class Field(msgspec.Struct, frozen=True):
    """One field: the attribute, the key that users write, the type, the default (``NODEFAULT``: required)."""

    name: str
    key: str
    type: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is msgspec.NODEFAULT


def fields_of(struct: type[msgspec.Struct]) -> list[Field]:
    """Return the fields of a struct, in order.

    >>> class Table(msgspec.Struct):
    ...     size: Annotated[int | None, Meta(ge=1)] = None
    >>> [(field.key, field.required) for field in fields_of(Table)]
    [('size', False)]
    """
    declared = _declared.get(struct)
    if declared is None:
        declared = _declared[struct] = [(info, usable(info.type)) for info in msgspec.structs.fields(struct)]
    return [_field(info, kind) for info, kind in declared]


def is_struct(declared: Any) -> TypeGuard[type[msgspec.Struct]]:
    """Return whether a type is a msgspec struct."""
    return isinstance(declared, type) and issubclass(declared, msgspec.Struct)


def bare(declared: Any) -> Any:
    """Return a type without its ``Annotated``.

    >>> bare(Annotated[int, Meta(ge=1)])
    <class 'int'>
    """
    return bare(get_args(declared)[0]) if get_origin(declared) is Annotated else declared


def usable(declared: Any) -> Any:
    """Return a type with the bounds of an optional value moved to the value, as msgspec requires.

    >>> msgspec.convert(5, usable(Annotated[int | None, Meta(ge=1, description="size")]))
    5
    """
    if get_origin(declared) is not Annotated:
        return declared
    inner, *metas = get_args(declared)
    if get_origin(inner) not in (Union, types.UnionType):
        return declared
    members: Any = tuple(_bounded(member, metas) for member in get_args(inner))
    return Annotated[(Union[members], *map(_unbounded, metas))]  # noqa: UP007 - the members are data


def _field(info: msgspec.structs.FieldInfo, kind: Any) -> Field:
    default = info.default
    if info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory()
    return Field(info.name, info.encode_name, kind, default)


def _bounded(member: Any, metas: list[Any]) -> Any:
    bounds = {
        name: getattr(meta, name)
        for meta in metas
        if isinstance(meta, Meta)
        for name in _BOUNDS
        if getattr(meta, name) is not None
    }
    return Annotated[member, Meta(**bounds)] if bounds and member is not type(None) else member


def _unbounded(meta: Any) -> Any:
    if not isinstance(meta, Meta):
        return meta
    kept = {
        name: getattr(meta, name)
        for name in ("title", "description", "examples", "extra_json_schema", "extra")
    }
    return Meta(**{name: value for name, value in kept.items() if value is not None})
