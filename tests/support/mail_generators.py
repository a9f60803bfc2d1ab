"""Generators of mails, named by path in the tests of the smtp handler."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

from rambla_py.errors import PermanentError

NOT_A_FUNCTION = 3


def welcome(payload: Any) -> dict[str, Any]:
    """Return a mapping made of the payload."""
    return {
        "to": payload["email"],
        "subject": f"Welcome, {payload['name']}",
        "text": f"Hi {payload['name']}!",
    }


def text(payload: Any) -> str:
    return f"total: {payload}"


def as_email(payload: Any) -> EmailMessage:
    mail = EmailMessage()
    mail["To"] = payload
    mail["Subject"] = "Made by the library"
    mail.set_content("Hello")
    return mail


def number(payload: Any) -> int:
    return 3


def broken(payload: Any) -> Any:
    raise KeyError("name")


def refusing(payload: Any) -> Any:
    raise PermanentError("no such template")
