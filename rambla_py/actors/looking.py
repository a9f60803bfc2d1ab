"""This module says how a target is: its status, its accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rambla_py.errors import describe
from rambla_py.report import Audit, TargetStatus

if TYPE_CHECKING:
    from rambla_py.actors.target import Target

__all__ = ["audit_of", "status_of"]


def audit_of(target: Target) -> Audit:
    """Return the accounts; what is pending is counted first, so that nothing falls between."""
    pending = target.pending()
    return Audit(accepted=target.ledger.accepted(), pending=pending, **target.ledger.statuses)


def status_of(target: Target) -> TargetStatus:
    """Return how a target is now, the error redacted."""
    ledger, roster = target.ledger, target.roster
    error = ledger.last_error
    return TargetStatus(
        service=target.service,
        channel=target.channel,
        handler=target.config.handler.__name__,
        state=target.state if target.config.enabled else "disabled",
        workers=roster.crew.states(),
        queued=len(target.mailbox),
        in_flight=target.in_flight(),
        statuses={str(status): count for status, count in ledger.statuses.items()},
        reasons=dict(ledger.reasons),
        abandoned=sum(worker.is_alive() for worker in roster.abandoned),
        last_error=None if error is None else target.redact(describe(error)),
    )
