"""The standard library's ``SMTP`` policy, with corrections of what it writes wrongly.

Structure, boundaries, parameters, dates and transfer encodings of a mail are the library's. The corrections,
each with a test that shows the library's own output (``tests/handlers/test_smtp_policy.py``):

- Lines of encoded words and of quoted-printable have at most 76 characters, not 78 (RFC 2047, 2; RFC 2045,
  6.7; gh-78206), and an encoded word has at most 75 (RFC 2047, 2).
- Spaces between words that are encoded are encoded with them; a reader drops those between two encoded words
  (RFC 2047, 6.2; gh-92081, gh-144156).
- Commas between addresses are never encoded, and an address never becomes a part of the encoded name beside
  it (RFC 2047, 5; gh-100884).
- Headers that hold addresses, but that the library does not know as such, keep them outside of encoded words
  (RFC 2047, 5; RFC 8098, 2.1).
- A non-ASCII local part is refused, not encoded (RFC 2047, 5): it needs SMTPUTF8.
- Words longer than a line stay as they are, so that message ids and URLs remain valid (RFC 5322, 2.1.1;
  gh-85725, gh-100991).
- Text that looks like an encoded word is encoded, so that it is read as it was written (RFC 2047, 6.2).
- Only CR and LF end a line (RFC 5322, 2.2), not U+2028 and others of ``str.splitlines`` (gh-117313).
- Fields that were read from a mail are sent as they were read: written again they may lose their quotes
  (gh-87720).
"""

from __future__ import annotations

import re
from binascii import b2a_qp
from collections.abc import Iterable, Iterator, Sequence
from email.base64mime import header_encode
from email.contentmanager import ContentManager, raw_data_manager
from email.headerregistry import Address, AddressHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any

__all__ = ["ADDRESS_HEADERS", "POLICY", "address_field", "as_lines", "text_field"]

ADDRESS_HEADERS = frozenset(
    {
        "resent-to",
        "resent-cc",
        "resent-from",
        "resent-sender",
        "resent-reply-to",
        "mail-reply-to",
        "mail-followup-to",
        "errors-to",
        "disposition-notification-to",
        "return-receipt-to",
    }
)
"""Headers of addresses beside those that are fields of a mail."""

_LINE = 78
_LINE_WITH_WORDS = 76
_MOST_IN_LINE = 998
_AROUND_WORD = len("=?utf-8?b??=")
_WIDEST_NAME = 30
_LONGEST_QUOTED = 60

_ENDS = re.compile(r"\r\n|\r|\n")
_TOKEN = re.compile(r"[ \t]*[^ \t]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \-]*\Z")
_PLAIN = re.compile(rb"[\t\n\r\x20-\x7e]*\Z")
_LONG_LINE = re.compile(rb"[^\n]{990}")


def text_field(name: str, text: str) -> str:
    r"""Return a header field of free text, folded, without its last line break; raises ``ValueError``.

    >>> text_field("Subject", "Grüße")
    'Subject: =?utf-8?b?R3LDvMOfZQ==?='
    """
    if not text.isascii() or "=?" in text:
        return f"{name}: " + "\r\n ".join(_encoded_words(text, len(name) + 2))
    line = f"{name}: {text}"
    return line if len(line) <= _LINE else _folded_at_spaces(name, text)


def address_field(name: str, mailboxes: Iterable[tuple[str, str]]) -> str:
    """Return a header field of mailboxes (address, display name), without its last line break.

    >>> address_field("To", [("a@example.com", "Doe, Ann"), ("b@example.com", "")])
    'To: "Doe, Ann" <a@example.com>, b@example.com'
    """
    return _filled(name, _listed([*_mailbox(address, shown)] for address, shown in mailboxes))


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


class _Content(ContentManager):
    """The library's way to set the content of a part, with a quoted-printable of our own."""

    def set_content(self, msg: Any, obj: Any, *args: Any, **fields: Any) -> None:
        if isinstance(obj, str):
            _set_text(msg, obj, *args, **fields)
        else:
            raw_data_manager.set_content(msg, obj, *args, **fields)


class _Policy(EmailPolicy):
    """The library's policy, with its header fields corrected. Values are kept as they are set, unparsed."""

    def header_max_count(self, name: str) -> None:
        return None

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        return name, value

    def header_fetch_parse(self, name: str, value: str) -> Any:
        return value

    def fold_binary(self, name: str, value: Any) -> bytes:
        return self.fold(name, value).encode("ascii")

    def fold(self, name: str, value: Any) -> str:
        lower = name.lower()
        if not hasattr(value, "name"):
            most = _LINE_WITH_WORDS if lower.startswith("content-") else _MOST_IN_LINE
            lines = _ENDS.split(value)
            if value.isascii() and len(name) + 2 + max(map(len, lines)) <= most:
                return f"{name}: " + "".join(f"{line}\r\n" for line in lines)
            value = self.header_factory(name, _utf8("".join(lines)))
        if lower in ADDRESS_HEADERS and not hasattr(value, "groups"):
            value = self.header_factory(name, str(value))
        if hasattr(value, "groups"):
            return _filled(name, _listed(map(_group, value.groups))) + "\r\n"
        if isinstance(value, UnstructuredHeader):
            return text_field(name, str(value).strip()) + "\r\n"
        return str(value.fold(policy=self))


def _registry() -> HeaderRegistry:
    registry = HeaderRegistry()
    for name in ADDRESS_HEADERS:
        registry.map_to_type(name, AddressHeader)  # type: ignore[arg-type]  # it adds the base class itself
    return registry


POLICY = _Policy(
    linesep="\r\n",
    cte_type="7bit",
    max_line_length=_LINE_WITH_WORDS,
    header_factory=_registry(),
    content_manager=_Content(),
)
"""The corrected policy: for ``EmailMessage(policy=POLICY)`` and ``mail.as_bytes(policy=POLICY)``."""


# -- free text ----------------------------------------------------------------------------------------


def _encoded_words(text: str, column: int) -> list[str]:
    """Return a string as encoded words, of which the first begins at this column, and the others at 1."""
    words, piece, most = [], b"", _bytes_in(_LINE_WITH_WORDS - column)
    for character in text:
        coded = character.encode()
        if len(piece) + len(coded) > most:
            words.append(header_encode(piece, "utf-8"))
            piece, most = b"", _bytes_in(_LINE_WITH_WORDS - 1)
        piece += coded
    return [*words, header_encode(piece, "utf-8")]


def _bytes_in(columns: int) -> int:
    return max((columns - _AROUND_WORD) // 4 * 3, 9)


def _folded_at_spaces(name: str, text: str) -> str:
    lines, line = [], f"{name}:"
    for token in _TOKEN.findall(f" {text}"):
        if len(line) + len(token) > _LINE and line != f"{name}:":
            lines.append(line)
            line = ""
        line += token
    lines.append(line)
    if any(len(line) > _MOST_IN_LINE for line in lines):
        raise ValueError(f"a word of more than {_MOST_IN_LINE} characters does not fit in a header")
    return "\r\n".join(lines)


def _utf8(value: str) -> str:
    """Return the text of a field that was read, in which bytes that are not ASCII are surrogates."""
    try:
        return value.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        return value


# -- addresses ----------------------------------------------------------------------------------------


def _mailbox(address: str, name: str) -> Iterator[str]:
    """Yield what a line break may separate."""
    if name:
        yield from _phrase(name)
        yield f"<{address}>"
    else:
        yield address


def _phrase(name: str) -> list[str]:
    if not name.isascii():
        return _encoded_words(name, _WIDEST_NAME)
    if _PLAIN_NAME.match(name) and name == " ".join(words := name.split()) and "=?" not in name:
        if max(map(len, words), default=0) <= _LONGEST_QUOTED:
            return words
    elif len(name) <= _LONGEST_QUOTED:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return [f'"{escaped}"']
    return _encoded_words(name, _WIDEST_NAME)


def _group(group: Any) -> list[str]:
    members = [[*_mailbox(_ascii(one), one.display_name)] for one in group.addresses]
    if group.display_name is None:
        return _listed(members)
    words, listed = _phrase(group.display_name), _listed(members)
    return [*words[:-1], f"{words[-1]}:", *listed[:-1], f"{listed[-1]};" if listed else ";"]


def _ascii(address: Address) -> str:
    found = address.addr_spec
    if not found.isascii():
        raise ValueError("an address that is not ASCII, in a header that cannot have one")
    return found


def _listed(mailboxes: Iterable[Sequence[str]]) -> list[str]:
    """Return the words of all mailboxes, with the commas between them."""
    found = [[*words[:-1], f"{words[-1]},"] for words in mailboxes if words]
    words = [word for mailbox in found for word in mailbox]
    return [*words[:-1], words[-1].removesuffix(",")] if words else []


def _filled(name: str, words: Sequence[str]) -> str:
    lines, line = [], f"{name}:"
    for word in words:
        if len(line) + 1 + len(word) > _LINE_WITH_WORDS and line != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line])


# -- content ------------------------------------------------------------------------------------------


def _set_text(part: EmailMessage, text: str, subtype: str = "plain") -> None:
    data, encoding = as_lines(text.encode()) if text else b"", "7bit"
    if not _PLAIN.match(data) or _LONG_LINE.search(data):
        quoted = b2a_qp(data)
        if 57 * len(quoted) > 78 * len(data):  # base64, whose lines hold 57 bytes, is shorter
            raw_data_manager.set_content(part, text, subtype=subtype, cte="base64")
            return
        data, encoding = quoted, "quoted-printable"
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(data.decode("ascii"))
