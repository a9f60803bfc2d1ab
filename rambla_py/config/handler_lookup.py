"""Lookup of the handler class of a service's table, with the options that it declares."""

from __future__ import annotations

from typing import Any

import msgspec

from rambla_py.config.conversion import BAD, convert
from rambla_py.config.handler_signatures import misfits
from rambla_py.config.layers import Known
from rambla_py.config.options import declared
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.raw_tree import Node
from rambla_py.config.struct_fields import fields_of, is_struct
from rambla_py.errors import HandlerError, nearest
from rambla_py.handler import Handler
from rambla_py.handler_levels import level_of
from rambla_py.registry import find_handler, handler_names

__all__ = ["Found", "find", "own_table"]


class Found(msgspec.Struct, frozen=True):
    """A service's handler class, its name, and its options; None if they could not be found."""

    name: str
    handler: type[Handler] | None = None
    known: Known | None = None


def find(service: str, table: Node, problems: ProblemList) -> Found:
    """Find the handler that a table names with ``handler =``, or else by the name of the service."""
    given = table.get("handler")
    path = joined("", service) if given is None else joined(joined("", service), "handler")
    if given is not None and isinstance(given.value, type):
        return _described(_own_class(given, path, problems), table, path, problems)
    name = service if given is None else convert(given, str, path, problems)
    if name is BAD:
        return Found(service)
    try:
        return _described(Found(name, find_handler(name)), table, path, problems)
    except HandlerError as error:
        reason = str(error)
    except Exception as error:  # user code: any exception from its import is a configuration problem
        reason = f"importing it raised {type(error).__name__}: {error}"
    if name in handler_names():
        expected = "a handler that can be used"
    elif given is None:
        expected = f"a handler ({', '.join(handler_names())}), or any name with handler = 'module:Class'"
        reason = "did you mean 'rambla'?" if nearest(service, ["rambla"]) else reason
    else:
        expected = "the name of a handler, or 'module:Class'"
    problems.add(path, expected=expected, got=repr(name), file=(given or table).file, hint=reason)
    return Found(name)


def own_table(handler: type[Handler], service: str, table: Node, problems: ProblemList) -> dict[str, Any]:
    """Return the table from the handler's ``config()``; an empty one with a problem recorded if it fails."""
    try:
        return handler.config()
    except Exception as error:  # user code: reported together with all other problems
        expected = "a table from the handler's config()"
        got = f"{type(error).__name__}: {error}"
        problems.add(joined("", service), expected=expected, got=got, file=table.file)
        return {}


def _own_class(given: Node, path: str, problems: ProblemList) -> Found:
    handler = given.value
    name = f"{handler.__module__}:{handler.__qualname__}"
    if issubclass(handler, Handler) and level_of(handler) is not None:
        return Found(name, handler)
    expected = "a subclass of rambla_py.Handler with handle_publish, handle_batch or handle_deliveries"
    problems.add(path, expected=expected, got=name)
    return Found(name)


def _described(found: Found, table: Node, path: str, problems: ProblemList) -> Found:
    handler = found.handler
    if handler is None:
        return found
    for misfit in misfits(handler):
        expected = f"a method that can be called as {misfit.call}"
        got = f"{handler.__qualname__}.{misfit.signature}"
        problems.add(path, expected=expected, got=got, file=table.file)
    try:
        shape = handler.Connection
        settings = frozenset(field.key for field in fields_of(shape)) if is_struct(shape) else frozenset()
        known = Known(declared(handler), anything=handler.Options is dict, settings=settings)
        return Found(found.name, handler, known)
    except (HandlerError, NameError, TypeError) as error:
        expected = "a handler whose Options can be read"
        problems.add(path, expected=expected, got=handler.__qualname__, file=table.file, hint=str(error))
        return Found(found.name)
