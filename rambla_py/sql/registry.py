"""SQL dialects by name."""

from __future__ import annotations

import inspect
from typing import Any

import sqlalchemy
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from rambla_py._internal.entry_points import entry_points
from rambla_py._internal.import_paths import import_object
from rambla_py.errors import HandlerError, nearest
from rambla_py.sql.dialect import SqlDialect

__all__ = ["FallbackDialect", "dialect_names", "find_dialect", "register_dialect"]

GROUP = "rambla.sql_dialects"

_ALIASES = {"postgres": "postgresql"}
_known: dict[str, type[SqlDialect]] = {}


class FallbackDialect(SqlDialect):
    """Any database that SQLAlchemy has a dialect for: the base class, for the driver that the URL names.

    No statement is cancelled after ``read_timeout_s``, and the driver's own time-outs apply.
    """

    def check_url(self) -> None:
        """Raise ``ValueError`` if the driver is not installed."""
        try:
            type(self.alchemy).import_dbapi()
        except ImportError as error:
            raise ValueError(f"the driver of {self.url.drivername} cannot be imported: {error}") from error


def register_dialect(dialect: type[SqlDialect]) -> type[SqlDialect]:
    """Make a dialect known by its ``name``, for this process; the latest of a name wins.

    Raises ``ValueError`` for a class without a name or a driver. Returns the class.

    >>> class Nowhere(SqlDialect):
    ...     name = "nowhere"
    ...     driver = "sqlite+pysqlite"
    >>> register_dialect(Nowhere) is find_dialect("nowhere")
    True
    """
    _known[_checked(dialect.name, dialect).name] = dialect
    return dialect


def find_dialect(name: str, drivername: str = "") -> type[SqlDialect]:
    """Return the dialect class for a name: registered, announced by a package, or ``module:Class``.

    ``drivername`` is the URL's, such as ``mysql+mysqldb``; if it is not that of the dialect, or there is no
    dialect of the name, the answer is ``FallbackDialect``. Raises ``ValueError`` if SQLAlchemy does not
    know it either, with the nearest name.
    """
    found = _named(_ALIASES.get(name, name))
    if found is not None and drivername.lower() in ("", name, found.name, found.driver, found.async_driver):
        return found
    if _has_dialect(drivername or name):
        return FallbackDialect
    close = nearest(name, dialect_names())
    hint = f"did you mean {close!r}?" if close else f"known are {', '.join(dialect_names())}"
    raise ValueError(f"no SQL dialect for {name!r}; {hint}")


def dialect_names() -> list[str]:
    """Return the names of all dialects that are registered or announced, sorted."""
    return sorted({*_known, *entry_points(GROUP), *_ALIASES})


def _named(name: str) -> type[SqlDialect] | None:
    if name in _known:
        return _known[name]
    if ":" in name:
        try:
            return _checked(name, import_object(name))
        except HandlerError as error:
            raise ValueError(f"the SQL dialect {name!r} cannot be imported: {error.reason}") from error
    entry = entry_points(GROUP).get(name)
    if entry is None:
        return None
    try:
        loaded = entry.load()
    except ImportError as error:
        raise ValueError(f"the SQL dialect {name!r} cannot be imported: {error}") from error
    return _known.setdefault(name, _checked(name, loaded))


def _has_dialect(drivername: str) -> bool:
    try:
        sqlalchemy.URL.create(drivername).get_dialect()
    except (ArgumentError, NoSuchModuleError):
        return False
    return True


def _checked(name: str, dialect: Any) -> type[SqlDialect]:
    if not (inspect.isclass(dialect) and issubclass(dialect, SqlDialect)):
        raise ValueError(f"the SQL dialect {name!r} must be a subclass of SqlDialect; got {dialect!r}")
    if not (dialect.name and dialect.driver):
        raise ValueError(f"the SQL dialect {dialect.__qualname__} must set name and driver")
    return dialect
