"""Addresses and content of an ``email.message.EmailMessage``."""

from __future__ import annotations

import copy
import re
from collections.abc import Container, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from rambla_py.errors import SerializationError
from rambla_py.handlers.smtp.addresses import Mailbox, read_mailbox
from rambla_py.handlers.smtp.headers import refuse_controls
from rambla_py.handlers.smtp.policy import POLICY, as_lines

__all__ = ["addresses_of_email", "content_of_email", "mailboxes_of_header"]

_FIELDS = {"from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to", "sender": "sender"}
_REMOVED = frozenset({"from", "to", "cc", "bcc", "resent-bcc", "return-path"})
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_END_OF_LINE = re.compile(r"[\r\n\x00]")


def addresses_of_email(mail: EmailMessage) -> dict[str, Sequence[Mailbox]]:
    """Return the mailboxes of each address field; raises ``SerializationError``."""
    return {field: _mailboxes(mail, name, f"$[{name.title()!r}]") for name, field in _FIELDS.items()}


def mailboxes_of_header(value: str, where: str) -> list[Mailbox]:
    """Return the mailboxes in the text of a header; raises ``SerializationError`` with the path.

    >>> mailboxes_of_header("Ann <ann@example.com>, bob@example.com", "$")[1].address
    'bob@example.com'
    """
    mail = EmailMessage(policy=SMTP)
    try:
        refuse_controls(value)
        mail["To"] = value
    except ValueError as error:
        raise SerializationError(where, str(error)) from None
    found = _mailboxes(mail, "To", where)
    if not found:
        raise SerializationError(where, "expected one address or more, got none")
    return found


def content_of_email(mail: EmailMessage, *, without: Container[str]) -> bytes:
    """Return the other fields and the content of a mail, without its addresses and the named headers.

    Raises ``SerializationError`` if the standard library cannot write the mail, or if a header contains a
    line break.
    """
    _refuse_broken_headers(mail)
    own = copy.copy(mail)
    for name in {name.lower() for name in mail}:
        if name in _REMOVED or name in without:
            del own[name]
    try:
        return as_lines(own.as_bytes(policy=POLICY))
    except Exception as error:  # the library raises whatever a broken part leads to
        raise SerializationError("$", f"a mail that cannot be written ({type(error).__name__})") from error


def _mailboxes(mail: EmailMessage, name: str, where: str) -> list[Mailbox]:
    try:
        fields: list[Any] = mail.get_all(name, [])
        return [read_mailbox(one.addr_spec, one.display_name) for field in fields for one in field.addresses]
    except Exception as error:  # also of the library's parser; its text may quote the address
        raise SerializationError(where, f"not a list of addresses ({type(error).__name__})") from error


def _refuse_broken_headers(mail: EmailMessage) -> None:
    for part in mail.walk():
        for name, value in part.raw_items():
            if _END_OF_LINE.search(_FOLD.sub("", str(value))):
                raise SerializationError(f"$[{name!r}]", "a header with a line break in it")
