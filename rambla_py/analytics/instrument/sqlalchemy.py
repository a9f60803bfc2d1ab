"""Instrumentation of engines of SQLAlchemy."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from rambla_py.analytics.instrument.calls import Queries, QueryTracker
from rambla_py.analytics.instrumentation import Instrumentation
from rambla_py.analytics.privacy import sql_masking as _sql_masking  # noqa: F401  # now, not in a request

__all__ = ["instrument_sqlalchemy"]

_STARTED: Final = "_rambla_started"


def instrument_sqlalchemy(engine: Engine | AsyncEngine, tracker: QueryTracker) -> Instrumentation:
    """Track each statement of an engine as a Database Query: its text, duration, success and dialect.

    Never its parameters; literals leave the text before it is stored. A statement that fails has the
    name of the driver's error. ``uninstrument()`` of what is returned ends it. Statements in workers are
    left alone, so that an engine may be the one that events are written by.

    >>> from sqlalchemy import create_engine
    >>> engine = create_engine("sqlite://")
    >>> instrumentation = instrument_sqlalchemy(engine, tracker)  # doctest: +SKIP
    """
    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    queries = Queries(tracker, target.dialect.name)

    def before(
        conn: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        if context is not None:
            setattr(context, _STARTED, perf_counter())

    def after(
        conn: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        started = _taken(context)
        if started is not None:
            queries.track(statement, started)

    def failed(exception: ExceptionContext) -> None:
        started = _taken(exception.execution_context)
        if started is not None and exception.statement is not None:
            queries.track(exception.statement, started, exception.original_exception)

    listeners = (
        ("before_cursor_execute", before),
        ("after_cursor_execute", after),
        ("handle_error", failed),
    )
    for name, listener in listeners:
        event.listen(target, name, listener)

    def undo() -> None:
        for name, listener in listeners:
            event.remove(target, name, listener)

    return Instrumentation(undo)


def _taken(context: ExecutionContext | None) -> float | None:
    """Return when a statement began, once; None for what failed before a statement, or after it."""
    started: float | None = getattr(context, _STARTED, None)
    if started is not None:
        setattr(context, _STARTED, None)
    return started
