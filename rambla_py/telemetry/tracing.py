"""Interface of tracing, as the runtime sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.telemetry.observer import ObservedTarget

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["CallTrace", "CallerTrace", "RequestTrace", "TracedTarget", "Tracing", "ends_with"]


class TracedTarget(ObservedTarget, Protocol):
    """The target of a delivery that is traced."""

    @property
    def headers(self) -> Mapping[str, Any] | None:
        """The headers of its channel."""
        ...


class CallTrace(Protocol):
    """The trace of one call of ``publish``, in the thread that publishes."""

    def options(
        self, target: TracedTarget, given: Mapping[str, Any], message_id: str | None = None
    ) -> Mapping[str, Any]:
        """Return the options of one delivery with the headers of its trace; asked once a delivery.

        ``message_id`` is its id, if that is known already.
        """

    def drafted(self, deliveries: Sequence[Delivery[Any]]) -> None:
        """Take the deliveries of the call, in the order in which their options were asked for."""

    def ended(self, error: BaseException | None) -> None:
        """End the trace: all were accepted, or the call raised ``error``. Only the first call counts."""


class CallerTrace(Protocol):
    """The trace of a caller, under which each message has a span of its own; of any thread."""

    def begin(
        self, target: TracedTarget, message_id: str
    ) -> tuple[Mapping[str, str], object, Callable[[], None]]:
        """Begin the span of a message; return the headers of the message, the span, and what ends it."""

    def failed(self, span: Any, error: BaseException) -> None:
        """Show the error of a call on the span of its message, before it ends."""


class RequestTrace(Protocol):
    """The trace of one request that carries several messages."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that the request has of it."""

    def ended(self, error: BaseException | None, result: Any = None) -> None:
        """End the trace: the request was answered, or failed; only the first call counts."""


class Tracing(Protocol):
    """Traces an app: adds headers to what is published, and spans to the calls of handlers."""

    @property
    def current(self) -> Callable[[], object]:
        """Return the context of this thread: the same object as long as a call adds the same headers."""

    def headers(self, context: Any) -> Mapping[str, str] | None:
        """Return the headers that a call in a context adds to all of its messages alike.

        Empty without a caller's span; None if ``begin`` decides for each delivery.
        """

    def begin(self) -> CallTrace | None:
        """Begin the trace of a call; None without a caller's span."""

    def caller(self, context: Any) -> CallerTrace:
        """Return the trace of the caller in a context for which ``headers`` returns None."""

    def attempt(self, target: TracedTarget, delivery: Delivery[Any]) -> AbstractContextManager[Any]:
        """Return what a handler's call with one message is made in."""

    def request(self, target: TracedTarget, deliveries: Sequence[Delivery[Any]]) -> RequestTrace | None:
        """Begin the trace of a request that carries several messages; None if none of them is traced."""


@contextmanager
def ends_with(trace: CallTrace | None) -> Iterator[None]:
    """End the trace of a call with the block, and with the error that the block raises."""
    try:
        yield
    except BaseException as error:
        if trace is not None:
            trace.ended(error)
        raise
    if trace is not None:
        trace.ended(None)
