"""This module takes an ``email.message.EmailMessage`` of the user's apart, and leaves it as it was."""

from __future__ import annotations

import copy
import re
from collections.abc import Container
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from rambla_py.errors import SerializationError
from rambla_py.handlers.smtp.addresses import Mailbox, read_mailbox
from rambla_py.handlers.smtp.parts import as_lines

__all__ = ["PEOPLE", "content_of_email", "people_of_email"]

PEOPLE = ("from", "to", "cc", "bcc")
_POLICY = SMTP.clone(cte_type="7bit")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_END_OF_LINE = re.compile(r"[\r\n\x00]")


def people_of_email(mail: EmailMessage) -> dict[str, list[Mailbox]]:
    """Return the mailboxes of From, To, Cc and Bcc; raises ``SerializationError``."""
    return {name: _mailboxes(mail, name) for name in PEOPLE}


def content_of_email(mail: EmailMessage, *, without: Container[str]) -> bytes:
    """Return the mail without the named fields and those that name people: its other fields and content.

    Raises ``SerializationError`` for what the standard library cannot write, and for a header with the end
    of a line in it.
    """
    _refuse_broken_headers(mail)
    own = copy.copy(mail)
    for name in {name.lower() for name in mail}:
        if name in PEOPLE or name in ("resent-bcc", "return-path") or name in without:
            del own[name]
    try:
        return as_lines(own.as_bytes(policy=_POLICY))
    except Exception as error:  # the library raises whatever a broken part leads to
        raise SerializationError(
            "$", f"a mail that cannot be written: {type(error).__name__}: {error}"
        ) from error


def _mailboxes(mail: EmailMessage, name: str) -> list[Mailbox]:
    try:
        fields: list[Any] = mail.get_all(name, [])
        return [read_mailbox(one.addr_spec, one.display_name) for field in fields for one in field.addresses]
    except Exception as error:
        raise SerializationError(f"$[{name.title()!r}]", f"not a list of addresses: {error}") from error


def _refuse_broken_headers(mail: EmailMessage) -> None:
    for part in mail.walk():
        for name, value in part.raw_items():
            if _END_OF_LINE.search(_FOLD.sub("", str(value))):
                raise SerializationError(f"$[{name!r}]", "a header with the end of a line in it")
