"""Extra fields of log records."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["error_extra", "log_extra", "target_extra"]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}")


class _Named(Protocol):
    """A target, or its configuration."""

    @property
    def service(self) -> str: ...

    @property
    def channel(self) -> str: ...


def target_extra(target: _Named, worker: int | None = None) -> dict[str, Any]:
    """Return the fields of a record about a target, or about one of its workers."""
    extra: dict[str, Any] = {"rambla_service": target.service, "rambla_channel": target.channel}
    if worker is not None:
        extra["rambla_worker"] = worker
    return extra


def error_extra(error: BaseException | None, text: str) -> dict[str, Any]:
    """Return the fields of an error, with its redacted text."""
    return {} if error is None else {"rambla_error": text, "rambla_error_class": type(error).__name__}


def log_extra(delivery: LiveDelivery, status: str) -> dict[str, Any]:
    """Return the fields of a record about a delivery."""
    return {
        "rambla_service": delivery.target.service,
        "rambla_channel": delivery.target.channel,
        "rambla_message_id": delivery.id,
        "rambla_attempts": delivery.attempts,
        "rambla_status": status,
        **_trace_extra(delivery),
    }


def _trace_extra(delivery: LiveDelivery) -> dict[str, Any]:
    """Return its trace: of its own header, because the thread of a worker has no current one."""
    given = (delivery.headers or {}).get("traceparent")
    found = _TRACEPARENT.fullmatch(given) if isinstance(given, str) else None
    return {} if found is None else {"rambla_trace_id": found["trace"], "rambla_span_id": found["span"]}
