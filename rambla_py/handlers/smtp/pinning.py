"""Rules for which addresses a mail may set itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rambla_py.errors import PermanentError
from rambla_py.handlers.smtp.addresses import Mailbox

__all__ = ["FIELDS", "HEADER_FIELDS", "PINNED_HEADERS", "Addresses", "pinned_fields", "resolve"]

Addresses = Mapping[str, Sequence[Mailbox]]
"""Mailboxes by field; a field that is missing or empty is not set."""

_RECIPIENTS = ("to", "cc", "bcc")
_SENDERS = ("from", "reply_to", "sender", "return_path")
FIELDS = (*_RECIPIENTS, *_SENDERS)

HEADER_FIELDS = {"reply-to": "reply_to", "sender": "sender"}
"""Headers that are another spelling of a field."""

PINNED_HEADERS = {
    "resent-to": "to",
    "resent-cc": "cc",
    "resent-from": "from",
    "resent-sender": "sender",
    "resent-reply-to": "reply_to",
    "mail-reply-to": "reply_to",
    "mail-followup-to": "reply_to",
    "errors-to": "return_path",
}
"""Headers that would undo a pinned field, and the field."""


def pinned_fields(configured: Addresses, allow: Iterable[str]) -> frozenset[str]:
    """Return the fields that a mail cannot set, given those that its channel or connection sets.

    Recipients are pinned together: a mail to a channel that sets ``to`` cannot add a ``bcc``.

    >>> ann = [Mailbox("ann@example.com")]
    >>> sorted(pinned_fields({"to": ann, "from": ann}, allow=["to"]))
    ['bcc', 'cc', 'from']
    """
    pinned = {name for name in _SENDERS if configured.get(name)}
    if any(configured.get(name) for name in _RECIPIENTS):
        pinned.update(_RECIPIENTS)
    return frozenset(pinned.difference(allow))


def resolve(configured: Addresses, given: Addresses, pinned: frozenset[str]) -> dict[str, Sequence[Mailbox]]:
    """Return the addresses of a mail: its own ones where it may set them, else the configured ones.

    Raises ``PermanentError`` that names the field if the mail sets a pinned one to another value.

    >>> ann, eve = [Mailbox("ann@example.com")], [Mailbox("eve@example.com")]
    >>> resolve({"to": ann}, {"from": eve}, frozenset({"to"}))["from"]
    [Mailbox(address='eve@example.com', name='')]
    """
    found: dict[str, Sequence[Mailbox]] = {}
    for name in FIELDS:
        fixed, own = configured.get(name, ()), given.get(name, ())
        if own and name in pinned:
            if not _same(own, fixed):
                raise PermanentError(refused(name))
            own = ()
        found[name] = own or fixed
    return found


def refused(name: str) -> str:
    """Return the error for a mail that sets a pinned field."""
    return (
        f"the mail sets {name!r}, which the channel or its connection pins; "
        f"allow = [{name!r}] on the channel lets mails set it"
    )


def _same(own: Sequence[Mailbox], fixed: Sequence[Mailbox]) -> bool:
    names = {one.address: one.name for one in fixed}
    return {one.address for one in own} == names.keys() and all(
        one.name in ("", names[one.address]) for one in own
    )
