"""The audit of an outbox: whether every message that was accepted has an outcome or is waiting."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rambla_py.outbox.journal import Account, Journal

__all__ = ["OutboxAudit", "audited"]


class OutboxAudit(msgspec.Struct, frozen=True):
    """The accounts of an outbox by target, across restarts and processes.

    An account adds up if ``accepted`` is the sum of the outcomes (``ok``, ``failed``, ``fatal``, ``dropped``,
    ``expired``, ``unknown``) and of ``pending``, which is counted from the rows. ``stored`` is how many rows
    SQLite counted, which must be the sum of ``accepted``; None on PostgreSQL. ``differences`` has a sentence
    for each account that does not add up.
    """

    targets: Mapping[str, Account]
    stored: int | None = None

    @property
    def balanced(self) -> bool:
        """Whether all of it adds up."""
        return not self.differences

    @property
    def differences(self) -> list[str]:
        """What does not add up, by target.

        >>> OutboxAudit({"amqp.orders": Account(accepted=5, ok=3, pending=1)}).differences
        ['amqp.orders: 5 accepted, 3 ended, 1 pending: 1 is missing']
        """
        found = [_difference(name, account) for name, account in self.targets.items() if account.difference]
        accepted = sum(account.accepted for account in self.targets.values())
        if self.stored is not None and self.stored != accepted:
            difference = _by(self.stored - accepted)
            found.append(f"all targets: {self.stored:,} stored, {accepted:,} accepted: {difference}")
        return found


def audited(journal: Journal) -> OutboxAudit:
    """Return the audit of an open journal at this moment; raises ``OutboxError``."""
    accounts, stored = journal.ledger()
    return OutboxAudit(dict(sorted(accounts.items())), stored)


def _difference(name: str, account: Account) -> str:
    ended = account.accepted - account.difference - account.pending
    counts = f"{account.accepted:,} accepted, {ended:,} ended, {account.pending:,} pending"
    return f"{name}: {counts}: {_by(account.difference)}"


def _by(difference: int) -> str:
    verb = "is" if abs(difference) == 1 else "are"
    return f"{abs(difference):,} {verb} {'missing' if difference > 0 else 'too many'}"
