"""Checks of the driver parameters in a database URL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from rambla_py.errors import nearest

if TYPE_CHECKING:
    from rambla_py.sql.dialect import SqlDialect

__all__ = ["check_known"]


def check_known(
    dialect: SqlDialect,
    known: Collection[str],
    *,
    hints: Mapping[str, str] | None = None,
    unchecked: Collection[str] = (),
    check: Callable[[str, Any], object] = lambda name, value: None,
) -> None:
    """Raise ``ValueError`` that names a parameter which the driver does not know, or cannot read.

    ``hints`` say where parameters belong that are not ``known``. ``check`` is called with each name and its
    value as the driver gets it, and may raise anything; ``unchecked`` names are not converted.
    """
    url = dialect.url
    for name in url.query:
        if name not in known:
            close = nearest(name, known)
            hint = f"did you mean {close!r}?" if close else f"known are {', '.join(sorted(known))}"
            hint = (hints or {}).get(name, hint)
            raise ValueError(f"the url has an unknown parameter {name!r}; {hint}")
        if name in unchecked:
            continue
        try:
            _, named = dialect.arguments(url.set(query={name: url.query[name]}))
            check(name, named.get(name))
        except Exception:  # conversions of SQLAlchemy and of drivers raise many kinds; their texts quote it
            raise ValueError(f"the url has a wrong value for the parameter {name!r}") from None
