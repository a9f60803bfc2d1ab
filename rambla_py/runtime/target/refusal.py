"""Refusals of a target: errors that keep it down until a person acts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rambla_py._internal.tracebacks import drop_tracebacks
from rambla_py.telemetry.records import error_extra, target_extra

if TYPE_CHECKING:
    from rambla_py.errors import AccessError
    from rambla_py.runtime.target.target import Target

__all__ = ["report_refusal"]

log = logging.getLogger("rambla_py.worker")


def report_refusal(target: Target, error: AccessError, worker: int = 0) -> None:
    """Record that a target is down until a person acts; the first of an outage is logged, as an ERROR."""
    config = target.config
    target.counters.note(f"connect:{type(error).__name__}", error)
    if target.state.connect_failed(error):
        text = target.error_text(error)
        log.error(
            "%s is down and tries again every %g s: %s",
            config.name,
            config.slow_restart_s,
            text,
            extra={**target_extra(config, worker), **error_extra(error, text)},
        )
    for connection in target.observers.connection:
        connection(config, worker, "down", error)
    if not target.collaborators.debug:
        drop_tracebacks(error)
