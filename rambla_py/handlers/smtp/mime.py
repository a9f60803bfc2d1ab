"""MIME bodies: text, HTML and attachments as 7-bit lines."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage

from rambla_py.handlers.smtp.attachments import Attachment
from rambla_py.handlers.smtp.policy import POLICY, as_lines

__all__ = ["content_of"]


def content_of(text: str | None, html: str | None, attachments: Sequence[Attachment]) -> bytes:
    r"""Return the fields that describe the content, an empty line, and the content.

    >>> content_of("Hello", None, []).splitlines()[-1]
    b'Hello'
    """
    mail = EmailMessage(policy=POLICY)
    if text is not None or html is None:
        mail.set_content(text or "")
    if html is not None:
        inline = [one for one in attachments if one.cid is not None]
        attachments = [one for one in attachments if one.cid is None]
        _add_html(mail, html, inline, alone=text is None)
    for one in attachments:
        mail.add_attachment(one.content, **one.fields)
    return as_lines(mail.as_bytes())


def _add_html(mail: EmailMessage, html: str, inline: Sequence[Attachment], *, alone: bool) -> None:
    if alone:
        mail.set_content(html, subtype="html")
        part = mail
    else:
        mail.add_alternative(html, subtype="html")
        part = mail.get_payload()[-1]  # type: ignore[assignment,index]  # a list, once there is an alternative
    for one in inline:
        part.add_related(one.content, disposition="inline", **one.fields)
