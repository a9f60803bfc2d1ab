"""This module finds the handler class of a service's table, and what it declares."""

from __future__ import annotations

from typing import Any

import msgspec

from rambla_py.config.conversion import BAD, convert
from rambla_py.config.findings import Findings, joined
from rambla_py.config.layers import Known
from rambla_py.config.node import Node
from rambla_py.config.options import declared
from rambla_py.errors import HandlerError, nearest
from rambla_py.handler import Handler, level_of
from rambla_py.registry import find_handler, handler_names

__all__ = ["Found", "find", "own_table"]


class Found(msgspec.Struct, frozen=True):
    """A service's handler class, the name it was found by, and its options; None where there is none."""

    name: str
    handler: type[Handler] | None = None
    known: Known | None = None


def find(service: str, table: Node, findings: Findings) -> Found:
    """Find the handler that a table names with ``handler =``, or else the one of the service's own name."""
    given = table.get("handler")
    path = joined("", service) if given is None else joined(joined("", service), "handler")
    if given is not None and isinstance(given.value, type):
        return _described(_own_class(given, path, findings), table, path, findings)
    name = service if given is None else convert(given, str, path, findings)
    if name is BAD:
        return Found(service)
    try:
        return _described(Found(name, find_handler(name)), table, path, findings)
    except HandlerError as error:
        reason = str(error)
    except Exception as error:  # the module is the user's: whatever its import raises is a wrong handler here
        reason = f"importing it raised {type(error).__name__}: {error}"
    if name in handler_names():
        expected = "a handler that can be used"
    elif given is None:
        expected = (
            f"a handler ({', '.join(handler_names())}), or any name with handler = 'module:Class' in it"
        )
        reason = "did you mean 'rambla'?" if nearest(service, ["rambla"]) else reason
    else:
        expected = "the name of a handler, or 'module:Class'"
    findings.problem(path, expected=expected, got=repr(name), file=(given or table).file, hint=reason)
    return Found(name)


def own_table(handler: type[Handler], service: str, table: Node, findings: Findings) -> dict[str, Any]:
    """Return what the handler's ``config()`` gives for a service; nothing when it fails, which is noted."""
    try:
        return handler.config()
    except Exception as error:  # user code: its failure is the reader's to know, with all the rest
        expected = "a table from the handler's config()"
        got = f"{type(error).__name__}: {error}"
        findings.problem(joined("", service), expected=expected, got=got, file=table.file)
        return {}


def _own_class(given: Node, path: str, findings: Findings) -> Found:
    handler = given.value
    name = f"{handler.__module__}:{handler.__qualname__}"
    if issubclass(handler, Handler) and level_of(handler) is not None:
        return Found(name, handler)
    expected = "a subclass of rambla_py.Handler with handle_publish, handle_batch or handle_deliveries"
    findings.problem(path, expected=expected, got=name)
    return Found(name)


def _described(found: Found, table: Node, path: str, findings: Findings) -> Found:
    handler = found.handler
    if handler is None:
        return found
    try:
        return Found(found.name, handler, Known(declared(handler), anything=handler.Options is dict))
    except (HandlerError, NameError, TypeError) as error:
        expected = "a handler whose Options can be read"
        findings.problem(path, expected=expected, got=handler.__qualname__, file=table.file, hint=str(error))
        return Found(found.name)
