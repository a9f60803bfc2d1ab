"""Trace context in the headers of messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.propagation import get_current_span

__all__ = ["MALFORMED", "Carriers", "carrier_of", "context_of", "has_own_context", "parent_of"]

MALFORMED: Final = "malformed"
_FIELD: Final = "traceparent"
_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_MOST_CONTEXTS: Final = 64
_MOST_PARENTS: Final = 1_024
_PLAIN: Final = frozenset({_FIELD, "tracestate", "baggage"})
_parents: dict[tuple[str, str | None], SpanContext | str] = {}


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
            headers = {**known.headers, _FIELD: _written(made)}
            # What will be read from them, mostly in this process, is known already.
            _remember(headers[_FIELD], headers.get("tracestate"), _as_parent(made))
            return headers
        return carrier_of(set_span_in_context(span, context))

    def _of(self, context: Context) -> _Carrier:
        known = self._known.get(id(context))
        if known is not None and known.context is context:
            return known
        headers, caller = carrier_of(context), get_current_span(context).get_span_context()
        is_plain = headers.keys() <= _PLAIN and headers.get(_FIELD) == _written(caller)
        made = _Carrier(context, headers, caller, is_plain)
        if len(self._known) >= _MOST_CONTEXTS:
            self._known.clear()
        self._known[id(context)] = made
        return made


class _Carrier(NamedTuple):
    """The headers of a context, which is kept alive so that its id is not used again.

    ``is_plain``: they are those of W3C, and no others.
    """

    context: Context
    headers: dict[str, str]
    caller: SpanContext
    is_plain: bool


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


def _as_parent(span: SpanContext) -> SpanContext:
    """Return the context of a span as its message carries it."""
    return SpanContext(span.trace_id, span.span_id, True, span.trace_flags, span.trace_state)


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
