"""The decorator that tracks calls of a function, a coroutine or a generator."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

__all__ = ["Finish", "tracked"]

P = ParamSpec("P")
R = TypeVar("R")

Finish = Callable[[Mapping[str, Any]], Any]
"""Called with ``duration_ms``, ``success`` and, after an exception, ``error_type``."""


def tracked(function: Callable[P, R], finish: Finish) -> Callable[P, R]:
    """Return the function, tracked: ``finish`` is called at the end of each call, the exception passes.

    A generator ends when it is exhausted, closed or raises; its time begins with the first step.

    >>> tracked(lambda: 7, lambda fields: print(sorted(fields)))()
    ['duration_ms', 'success']
    7
    """
    made: Any
    if inspect.iscoroutinefunction(function):
        made = _coroutine(function, finish)
    elif inspect.isasyncgenfunction(function):
        made = _async_generator(function, finish)
    elif inspect.isgeneratorfunction(function):
        made = _generator(function, finish)
    else:
        made = _function(function, finish)
    return functools.wraps(function)(made)


class _Timed:
    """Calls ``finish`` at the end of a ``with``; exceptions pass, and a closed generator has succeeded."""

    __slots__ = ("_finish", "_started")

    def __init__(self, finish: Finish) -> None:
        self._finish = finish

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fields: dict[str, Any] = {"duration_ms": (time.perf_counter() - self._started) * 1_000}
        fields["success"] = kind is None or kind is GeneratorExit
        if not fields["success"]:
            fields["error_type"] = type(error).__qualname__
        self._finish(fields)


def _function(function: Callable[..., Any], finish: Finish) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        with _Timed(finish):
            return function(*args, **named)

    return call


def _coroutine(function: Callable[..., Any], finish: Finish) -> Callable[..., Any]:
    async def call(*args: Any, **named: Any) -> Any:
        with _Timed(finish):
            return await function(*args, **named)

    return call


def _generator(function: Callable[..., Any], finish: Finish) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Generator[Any, Any, Any]:
        with _Timed(finish):
            return (yield from function(*args, **named))

    return call


def _async_generator(function: Callable[..., Any], finish: Finish) -> Callable[..., Any]:
    async def call(*args: Any, **named: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **named)
        with _Timed(finish):
            try:
                step = inner.asend(None)
                while True:
                    try:
                        value = await step
                    except StopAsyncIteration:
                        return
                    try:
                        step = inner.asend((yield value))
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        step = inner.athrow(error)
            finally:
                await inner.aclose()

    return call
