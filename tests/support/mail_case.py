"""Composed mails, read as their readers see them."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest
from handler_case import delivery
from hypothesis import strategies as st

from rambla_py.errors import SerializationError
from rambla_py.handlers.smtp.encode import Mail, compose
from rambla_py.handlers.smtp.settings import SmtpOptions, SmtpSettings

SENDER = "Shop <shop@example.com>"
TO_ANN: dict[str, Any] = {"to": "ann@example.com"}
PRINTABLE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))

ASCII = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126))


SETTINGS = SmtpSettings(from_=SENDER)
UNPINNED = ["to", "cc", "bcc", "from", "reply_to", "sender", "return_path"]


def mail_of(payload: Any, *, headers: Any = None, limit: int | None = None, **options: Any) -> Mail:
    """Return the mail to Ann of a payload, which may set any address unless ``allow`` is given."""
    made = msgspec.convert({"allow": UNPINNED, **TO_ANN, **options}, SmtpOptions)
    return compose(delivery(payload, headers=headers), made, settings=SETTINGS, limit=limit)


def read(mail: Mail) -> EmailMessage:
    """Return a mail as its reader sees it."""
    assert mail.data.replace(b"\r\n", b"").count(b"\n") == mail.data.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(map(len, mail.data.split(b"\r\n"))) <= 998
    found = email.message_from_bytes(mail.data, policy=email.policy.default)
    assert found.defects == []
    assert isinstance(found, EmailMessage)
    return found


def text_of(part: Any) -> str:
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def refusal(payload: Any, **options: Any) -> str:
    """Return the path of what is wrong with a message that must be refused."""
    with pytest.raises(SerializationError) as caught:
        mail_of(payload, **options)
    return caught.value.path
