"""Trace context in the headers of messages."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context, get_current
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.propagation import get_current_span

__all__ = [
    "MALFORMED",
    "Carriers",
    "carrier_of",
    "context_of",
    "current_context",
    "has_own_context",
    "parent_of",
]

MALFORMED: Final = "malformed"
_FIELD: Final = "traceparent"
_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_MOST_CONTEXTS: Final = 64
_MOST_PARENTS: Final = 1_024
_PLAIN: Final = frozenset({_FIELD, "tracestate", "baggage"})
_parents: dict[tuple[str, str | None], SpanContext | str] = {}


def current_context(runtime: object = None) -> Callable[[], Context]:
    """Return a function that returns the current context of a thread or task, at the cost of one call.

    ``get_current`` makes two more. It is what is returned where another package keeps the context.
    ``runtime`` is what keeps it, that of OpenTelemetry unless given.
    """
    runtime = runtime or getattr(otel_context, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is not ContextVarsRuntimeContext or not isinstance(variable, ContextVar):
        return get_current
    read: Callable[[], Context] = variable.get
    try:  # in a thread that has set none
        return read if type(contextvars.Context().run(read)) is Context else get_current
    except LookupError:
        return get_current


class Carriers:
    """The headers of contexts, made once for each context: messages of one span share them. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, _Carrier] = {}

    def of(self, context: Context) -> dict[str, str]:
        """Return the headers that the global propagator makes of a context; do not change them."""
        return self._of(context).headers

    def of_child(self, context: Context, span: Span) -> dict[str, str]:
        """Return the headers of a context with a span that is a child of its own.

        Where they differ from the headers of the context in ``traceparent`` only, no propagator is asked:
        that costs a tenth.
        """
        known, made = self._of(context), span.get_span_context()
        state = known.caller.trace_state
        if known.is_plain and (made.trace_state is state or made.trace_state == state):
            span_id, flags = made.span_id, made.trace_flags
            written = f"{known.begin}{span_id:016x}{known.end if flags == known.flags else f'-{flags:02x}'}"
            # What will be read from it, mostly in this process, is known already.
            if len(_parents) >= _MOST_PARENTS:
                _parents.clear()
            _parents[written, known.state] = SpanContext(
                known.trace_id, span_id, True, flags, made.trace_state
            )
            return {**known.headers, _FIELD: written}
        return carrier_of(set_span_in_context(span, context))

    def _of(self, context: Context) -> _Carrier:
        known = self._known.get(id(context))
        if known is not None and known.context is context:
            return known
        headers, caller = carrier_of(context), get_current_span(context).get_span_context()
        written = _written(caller)
        is_plain = headers.keys() <= _PLAIN and headers.get(_FIELD) == written
        made = _Carrier(
            context,
            headers,
            caller,
            is_plain,
            caller.trace_id,
            caller.trace_flags,
            written[: -len("0123456789abcdef-01")],
            written[-len("-01") :],
            headers.get("tracestate"),
        )
        if len(self._known) >= _MOST_CONTEXTS:
            self._known.clear()
        self._known[id(context)] = made
        return made


class _Carrier(NamedTuple):
    """The headers of a context, which is kept alive so that its id is not used again.

    ``is_plain``: they are those of W3C, and no others. ``begin`` and ``end`` are what the ``traceparent`` of
    the caller has around the id of its span, ``state`` is its ``tracestate``.
    """

    context: Context
    headers: dict[str, str]
    caller: SpanContext
    is_plain: bool
    trace_id: int
    flags: int
    begin: str
    end: str
    state: str | None


def carrier_of(context: Context) -> dict[str, str]:
    """Return the headers that the global propagator makes of a context."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=context)
    return carrier


def parent_of(headers: Mapping[str, Any]) -> SpanContext | str | None:
    """Return the context of a message's headers: None without one, ``MALFORMED`` if it cannot be read.

    >>> parent_of({"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}).trace_flags.sampled
    True
    >>> parent_of({"traceparent": "00-1"}), parent_of({"other": "x"})
    ('malformed', None)
    """
    given = headers.get(_FIELD)
    if given is not None:
        state = headers.get("tracestate")
        if type(given) is str and (state is None or type(state) is str):
            known = _parents.get((given, state))
            if known is not None:
                return known
        return _known(given, state if isinstance(state, str) else None)
    # Those of another propagator: B3, for one.
    fields = propagate.get_global_textmap().fields
    carrier = {name: value for name, value in headers.items() if name in fields and isinstance(value, str)}
    if not carrier:
        return None
    found = get_current_span(propagate.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None


def has_own_context(headers: Mapping[str, Any]) -> bool | str:
    """Return whether the user gave a message a trace context; ``MALFORMED`` if it cannot be read."""
    if _FIELD not in headers:
        fields = propagate.get_global_textmap().fields
        if _FIELD in fields:
            return False
    found = parent_of(headers)
    return MALFORMED if found == MALFORMED else found is not None


def context_of(headers: Mapping[str, Any], parent: SpanContext) -> Context:
    """Return the context in which a message is attempted: its parent, and its baggage."""
    carrier = {name: value for name, value in headers.items() if isinstance(value, str)}
    return set_span_in_context(NonRecordingSpan(parent), propagate.extract(carrier, Context()))


def _known(given: Any, state: str | None) -> SpanContext | str:
    """Return what ``_parsed`` does, and keep it: a message is asked several times, and many may share it."""
    if not isinstance(given, str):
        return MALFORMED
    found = _parents.get((given, state))
    if found is None:
        found = _parsed(given, state)
        _remember(given, state, found)
    return found


def _remember(given: str, state: str | None, found: SpanContext | str) -> None:
    if len(_parents) >= _MOST_PARENTS:
        _parents.clear()
    _parents[given, state] = found


def _written(span: SpanContext) -> str:
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _parsed(given: str, state: str | None) -> SpanContext | str:
    found = _TRACEPARENT.fullmatch(given)
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return MALFORMED
    trace_state = TraceState.from_header([state]) if state else None
    flags = TraceFlags(int(found["flags"], 16))
    parent = SpanContext(int(found["trace"], 16), int(found["span"], 16), True, flags, trace_state)
    return parent if parent.is_valid else MALFORMED
