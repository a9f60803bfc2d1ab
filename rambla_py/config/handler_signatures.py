"""Check of how a handler's methods can be called."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from rambla_py.handler import Handler

__all__ = ["Misfit", "misfits"]

_METHODS: Final[dict[str, tuple[str, ...]]] = {
    "handle_publish": ("message", "options", "state"),
    "handle_batch": ("messages", "state"),
    "handle_deliveries": ("deliveries", "state"),
    "connect": (),
    "close": ("connection",),
    "ping": ("connection",),
    "preflight": ("connection", "report"),
    "destination": ("connection",),
    "external_servers": ("channel",),
    "on_success": ("outcome",),
    "on_failure": ("outcome",),
    "on_fatal": ("outcome",),
    "on_outcome": ("outcome",),
}


class Misfit(msgspec.Struct, frozen=True):
    """A method that cannot be called as its contract says: its signature, and the call."""

    signature: str
    call: str


def misfits(handler: type[Handler]) -> list[Misfit]:
    """Return the methods of a handler that cannot be called as its contract says.

    A decorated method counts as the function that the decorator returned: ``*args`` take any call.

    >>> class Wrong(Handler):
    ...     def handle_batch(self, messages, options, state): ...
    >>> misfits(Wrong)
    [Misfit(signature='handle_batch(self, messages, options, state)', call='handle_batch(messages, state)')]
    """
    return [misfit for name, given in _METHODS.items() for misfit in _misfits(handler, name, given)]


def _misfits(handler: type[Handler], name: str, given: Sequence[str]) -> Iterator[Misfit]:
    method = inspect.getattr_static(handler, name)
    if method is inspect.getattr_static(Handler, name):
        return
    bound = isinstance(method, staticmethod | classmethod)
    try:
        # What a decorator wraps may have another signature than the function that is called.
        signature = inspect.signature(getattr(handler, name), follow_wrapped=False)
    except (TypeError, ValueError):  # a callable that cannot be looked into, such as one written in C
        return
    try:
        signature.bind(*([] if bound else [None]), *given)
    except TypeError:
        yield Misfit(_text(name, signature), f"{name}({', '.join(given)})")


def _text(name: str, signature: inspect.Signature) -> str:
    """Return the names of the parameters without annotations, which may be long."""
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return f"{name}{inspect.Signature(plain)}"
