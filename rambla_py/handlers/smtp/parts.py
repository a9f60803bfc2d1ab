"""This module writes what stands below the header of a mail: text, HTML, attachments, as 7-bit lines."""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP

from rambla_py.handlers.smtp.attachments import Attachment

__all__ = ["as_lines", "content_of"]

_POLICY = SMTP.clone(cte_type="7bit")
_PLAIN = re.compile(rb"[\t\n\r\x20-\x7e]*\Z")
_LONG_LINE = re.compile(rb"[^\n]{990}")
_BASE64_LINE = 57
_QUOTED_MOST = 20_000


def content_of(text: str | None, html: str | None, attachments: Sequence[Attachment]) -> bytes:
    r"""Return the fields that describe the content, an empty line, and the content.

    >>> content_of("Hello", None, []).splitlines()[-1]
    b'Hello'
    """
    if html is None and not attachments:
        return _plain_text(text or "")
    mail = EmailMessage(policy=_POLICY)
    if text is not None or html is None:
        _set_text(mail, text or "", "plain")
    if html is not None:
        inline = [one for one in attachments if one.cid is not None]
        attachments = [one for one in attachments if one.cid is None]
        _add_html(mail, html, inline, alone=text is None)
    for one in attachments:
        mail.add_attachment(one.content, **one.fields)
    return as_lines(mail.as_bytes())


def as_lines(data: bytes) -> bytes:
    r"""Return the bytes with every line ended by CR LF, the last one too.

    A lone CR or LF is what SMTP smuggling is made of: relays disagree about what it ends.

    >>> as_lines(b"a\n.\r\nb\rc")
    b'a\r\n.\r\nb\r\nc\r\n'
    """
    if not data.endswith(b"\r\n"):
        data = data.removesuffix(b"\r").removesuffix(b"\n") + b"\r\n"
    ends = data.count(b"\r\n")
    if data.count(b"\n") == ends and data.count(b"\r") == ends:
        return data
    return re.sub(rb"\r\n|\r|\n", b"\r\n", data)


def _plain_text(text: str) -> bytes:
    lines = as_lines(text.encode()) if text else b""
    encoding, body = (b"7bit", lines) if _fits(lines) else _encoded(lines)
    return (
        b'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body
    )


def _set_text(mail: EmailMessage, text: str, subtype: str) -> None:
    mail.set_content(text, subtype=subtype, cte=_encoding(text))


def _add_html(mail: EmailMessage, html: str, inline: Sequence[Attachment], *, alone: bool) -> None:
    if alone:
        _set_text(mail, html, "html")
        part = mail
    else:
        mail.add_alternative(html, subtype="html", cte=_encoding(html))
        part = mail.get_payload()[-1]  # type: ignore[assignment,index]  # a list, once there is an alternative
    for one in inline:
        part.add_related(one.content, disposition="inline", **one.fields)


def _encoding(text: str) -> str:
    if _fits(text.encode()):
        return "7bit"
    # The standard library's quoted-printable is Python, and slow.
    return "quoted-printable" if len(text) < _QUOTED_MOST else "base64"


def _fits(data: bytes) -> bool:
    return _PLAIN.match(data) is not None and _LONG_LINE.search(data) is None


def _encoded(lines: bytes) -> tuple[bytes, bytes]:
    """Return what is shorter, and the name of its encoding; readable text is so left readable."""
    quoted, packed = b2a_qp(lines), _base64(lines)
    return (b"quoted-printable", quoted) if len(quoted) <= len(packed) else (b"base64", packed)


def _base64(data: bytes) -> bytes:
    lines = [
        b2a_base64(data[at : at + _BASE64_LINE], newline=False) for at in range(0, len(data), _BASE64_LINE)
    ]
    return b"\r\n".join([*lines, b""])
