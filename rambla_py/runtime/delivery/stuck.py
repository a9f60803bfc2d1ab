"""Which workers are held by their connection, or stuck in user code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.runtime.delivery.worker import Worker

__all__ = ["busy_since", "is_held", "is_stuck"]


def is_stuck(worker: Worker, now: float, timeout_s: float) -> bool:
    """Return whether a call of user code, or an attempt, has taken ``timeout_s`` or longer."""
    since, session = busy_since(worker), worker.session
    if since is not None and now - since >= timeout_s:
        return True
    return session is not None and not session.lost and session.overdue(now, timeout_s)


def busy_since(worker: Worker) -> float | None:
    """Return since when a worker runs user code; None while its connection is held."""
    since, session = worker.busy_since, worker.session
    if since is None or session is None:
        return since
    return None if session.held else max(since, session.resumed_at)


def is_held(worker: Worker) -> bool:
    """Return whether a worker is connected, and its connection takes nothing for now."""
    return worker.state == "up" and worker.session is not None and worker.session.held
