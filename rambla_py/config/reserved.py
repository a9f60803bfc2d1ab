"""This module declares the reserved options, which every handler knows."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from rambla_py.cloudevent import BINARY, EVENTS, check_extensions
from rambla_py.errors import HandlerError
from rambla_py.handler import Handler
from rambla_py.policy import Backoff, Callbacks, Policy
from rambla_py.registry import import_object

__all__ = [
    "PER_MESSAGE",
    "BackoffTable",
    "CallbacksTable",
    "Reserved",
    "as_table",
    "callback",
    "finished",
    "late",
    "refusal",
    "serializer",
]

SERIALIZERS: Final = ("json", "msgpack", *sorted(EVENTS))
PER_MESSAGE: Final = frozenset({"id", "key"})
"""Reserved options that make sense for one message only."""


class BackoffTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``backoff``; its defaults are those of ``Backoff``."""

    initial_s: Annotated[float, Meta(ge=0, description="longest first wait")] = Backoff().initial_s
    multiplier: Annotated[float, Meta(ge=1, description="growth by failure")] = Backoff().multiplier
    max_s: Annotated[float, Meta(ge=0, description="longest wait")] = Backoff().max_s


_Hook = Annotated[Any, Meta(description='a function, as "module:function"')]


class CallbacksTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``callbacks``."""

    on_success: _Hook = None
    on_failure: _Hook = None
    on_fatal: _Hook = None
    on_outcome: _Hook = None


_Text = Annotated[str, Meta(min_length=1)]
_Source = Annotated[str, Meta(pattern=r"^\S+$")]
_Uri = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")]


class Reserved(msgspec.Struct, frozen=True):
    """Every reserved option with its type, constraints and text."""

    id: Annotated[str, Meta(min_length=1, description="the message's id; made when not given")] = ""
    key: Annotated[str, Meta(description="messages of a key keep their order")] = ""
    headers: Annotated[
        dict[str, str | int | float | bool], Meta(description="headers; all levels merge, key by key")
    ] = {}
    retries: Annotated[int, Meta(ge=0, description="attempts after the first that failed")] = 5
    backoff: Annotated[BackoffTable, Meta(description="waits between attempts, jittered")] = BackoffTable()
    delay_s: Annotated[float, Meta(ge=0, description="wait before the first attempt")] = 0.0
    expires_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="no attempt later than this after publish; inf: never"),
    ] = 300.0
    priority: Annotated[Literal["normal", "high"], Meta(description="high messages go first")] = "normal"
    callbacks: Annotated[CallbacksTable, Meta(description="functions that hear of outcomes")] = (
        CallbacksTable()
    )
    format: Annotated[
        Literal["none", "object", "bytes"], Meta(description="what to make of the payload before it is sent")
    ] = "none"
    serializer: Annotated[
        str,
        Meta(description='"json", "msgpack", "cloudevents", "cloudevents-binary" or "module:function"'),
    ] = "json"
    event_source: Annotated[
        _Source | None, Meta(description="cloudevents: where it happened; /, then the channel's name")
    ] = None
    event_type: Annotated[
        _Text | None, Meta(description="cloudevents: what happened; the channel's name when not given")
    ] = None
    event_subject: Annotated[_Text | None, Meta(description="cloudevents: what it happened to")] = None
    event_schema: Annotated[
        _Uri | None, Meta(description="cloudevents: the schema of the data, as dataschema")
    ] = None
    event_content_type: Annotated[
        _Text | None, Meta(description="cloudevents: media type of the data; by the payload when not given")
    ] = None
    event_extensions: Annotated[
        dict[str, str | int | bool], Meta(description="cloudevents: extension attributes, by name")
    ] = {}


def finished(name: str, value: Any) -> Any:
    """Return a checked reserved value as ``Policy`` holds it; raises ``ValueError`` with what it should be.

    >>> finished("expires_s", math.inf) is None, finished("backoff", BackoffTable(max_s=5.0)).max_s
    (True, 5.0)
    """
    if isinstance(value, BackoffTable):
        return Backoff(value.initial_s, value.multiplier, value.max_s)
    if isinstance(value, CallbacksTable):
        hooks = msgspec.structs.asdict(value)
        return Callbacks(**{hook: callback(given) for hook, given in hooks.items() if given is not None})
    if name == "expires_s" and value == math.inf:
        return None
    if name == "event_extensions":
        return check_extensions(value)
    return serializer(value) if name == "serializer" else value


def refusal(policy: Policy, handler: type[Handler], options: Any) -> str | None:
    """Say why a handler cannot do with these options what the serializer asks for; None when it can."""
    if policy.serializer != BINARY or handler.event_prefix(options) is not None:
        return None
    return f"{BINARY!r} puts attributes into headers, and this handler carries none here"


def callback(given: Any) -> Any:
    """Return a callable, imported where a text names it; raises ``ValueError``."""
    return _imported(given) if isinstance(given, str) else _callable(given, repr(given))


def serializer(name: str) -> str:
    """Return the name of a serializer that exists; raises ``ValueError``."""
    if name not in SERIALIZERS:
        _imported(name)
    return name


def _imported(path: str) -> Any:
    if ":" not in path:
        raise ValueError(f"{path!r} is not of the form 'module:function'")
    try:
        return _callable(import_object(path), repr(path))
    except HandlerError as error:
        raise ValueError(error.reason) from error
    except Exception as error:  # the module is the user's: whatever its import raises is a wrong path here
        raise ValueError(f"importing {path!r} raised {type(error).__name__}: {error}") from error


def _callable(found: Any, name: str) -> Any:
    if callable(found):
        return found
    raise ValueError(f"{name} is not callable")


def as_table(value: Any) -> Any:
    """Return a ``Backoff`` or ``Callbacks`` that a message gave as its table, so that one check serves both.

    >>> as_table(Backoff(max_s=5.0))["max_s"]
    5.0
    """
    return msgspec.structs.asdict(value) if isinstance(value, Backoff | Callbacks) else value


def late(policy: Policy) -> str:
    """Say why a delay does not fit into the time until the message expires."""
    return f"delay_s = {policy.delay_s:g} is not less than expires_s = {policy.expires_s:g}"
