"""This module turns a message into a mail: who it is from, whom it goes to, and its bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.message import Message as OldMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py.encoding import as_object
from rambla_py.errors import DeliveryError, PayloadTooLargeError, RamblaError, SerializationError, nearest
from rambla_py.handlers.smtp.addresses import Mailbox, read_mailbox
from rambla_py.handlers.smtp.attachments import Attachment, read_attachment
from rambla_py.handlers.smtp.foreign import content_of_email, people_of_email
from rambla_py.handlers.smtp.parts import content_of
from rambla_py.handlers.smtp.settings import SmtpOptions, find_generator
from rambla_py.handlers.smtp.words import address_field, field, message_id

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["LIMIT_NAME", "Mail", "compose"]

LIMIT_NAME = "the relay's limit (SIZE in its EHLO)"

_KEYS = ("from", "to", "cc", "bcc", "subject", "text", "html", "attachments", "headers", "return_path")
_OURS = frozenset(
    {"from", "to", "cc", "bcc", "subject", "message-id", "mime-version", "return-path", "resent-bcc"}
)
_NEW_KIND = (
    "make an email.message.EmailMessage, or read it as one: "
    "email.message_from_bytes(mail.as_bytes(), policy=email.policy.SMTP)"
)
_SHOWN = (("to", "To"), ("cc", "Cc"))


class Mail(NamedTuple):
    """A mail, ready to be handed over: the envelope, and the bytes, with lines that end in CR LF."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    message_id: str
    utf8: bool


class _People(NamedTuple):
    sender: Mailbox
    return_path: Mailbox
    to: list[Mailbox]
    cc: list[Mailbox]
    bcc: list[Mailbox]

    @property
    def recipients(self) -> tuple[str, ...]:
        """Each address once, in order."""
        return tuple(dict.fromkeys(one.address for one in (*self.to, *self.cc, *self.bcc)))

    @property
    def utf8(self) -> bool:
        return any(one.utf8 for one in (self.sender, self.return_path, *self.to, *self.cc, *self.bcc))


def compose(
    message: Delivery, options: SmtpOptions, *, sender: str | None = None, limit: int | None = None
) -> Mail:
    """Return the mail that a message stands for; what its payload says goes over what the options say.

    ``sender`` is the connection's; ``limit`` is the most bytes that the relay takes.

    Raises ``SerializationError`` with the path to what is wrong (``$.to[1]``, ``headers.X-Tenant``),
    ``PayloadTooLargeError``, and ``DeliveryError`` when the generator raises.
    """
    given = _content(message, options)
    extra = _extra_headers(message, given)
    if isinstance(given, EmailMessage):
        fields: Mapping[str, Any] = people_of_email(given)
        there = {name.lower() for name in given} - set(extra)
        content = content_of_email(given, without=extra)
        own_id = given["Message-ID"] if "message-id" in there else None
    else:
        fields, there, own_id = given, set(extra), None
        content = _written(fields, options, limit)
    people = _people(fields, options, sender)
    named = own_id or _message_id(message, people.sender)
    lines = [*_people_lines(people), *extra.values()]
    if "subject" not in there:
        lines.append(
            _line("$.subject", "Subject", _text(fields.get("subject"), "$.subject", options.subject))
        )
    if "date" not in there:
        lines.append(f"Date: {format_datetime(datetime.now(UTC))}")
    if own_id is None:
        lines.append(f"Message-ID: {named}")
    data = b"%b\r\n%b" % ("\r\n".join(lines).encode(), content)
    if limit is not None and len(data) > limit:
        raise PayloadTooLargeError(len(data), limit, LIMIT_NAME)
    return Mail(people.return_path.address, people.recipients, data, str(named), people.utf8)


def _content(message: Delivery, options: SmtpOptions) -> EmailMessage | Mapping[str, Any]:
    """Return what the payload, or the generator, gives for the mail; a text is that of a mapping."""
    given = _formatted(message)
    if options.generator is not None:
        given = _generated(given, options.generator)
    if isinstance(given, EmailMessage):
        return given
    if isinstance(given, OldMessage):
        raise SerializationError("$", f"a {type(given).__name__}, of the old kind; {_NEW_KIND}")
    if isinstance(given, Mapping):
        _check_keys(given)
        return given
    if options.generator is not None:
        if isinstance(given, str):
            return {"text": given}
        told = f"expected text, a mapping or an EmailMessage, got {type(given).__name__}"
        raise SerializationError("$ (of the generator)", told)
    try:
        return {"text": message.body().decode()}
    except UnicodeDecodeError:
        raise SerializationError(
            "$", "bytes that are not UTF-8; a mail's text is text, bytes go into attachments"
        ) from None


def _formatted(message: Delivery) -> Any:
    """Return the payload, or what ``format`` makes of it: the object that a text holds, or a text always."""
    policy = message.policy
    if policy.format == "object":
        return as_object(message.payload, format="object", serializer=policy.serializer)
    return message.body() if policy.format == "bytes" else message.payload


def _generated(payload: Any, path: str) -> Any:
    try:
        return find_generator(path)(payload)
    except RamblaError:
        raise
    except Exception as error:  # the user's own code
        raise DeliveryError(f"generator {path!r} raised {type(error).__name__}: {error}") from error


def _check_keys(fields: Mapping[str, Any]) -> None:
    for key in fields:
        if key not in _KEYS:
            close = nearest(str(key), _KEYS)
            hint = f"did you mean {close!r}?" if close else f"known are {', '.join(_KEYS)}"
            raise SerializationError(f"$.{key}", f"not a part of a mail; {hint}")


def _people(fields: Mapping[str, Any], options: SmtpOptions, default: str | None) -> _People:
    from_ = _mailboxes(fields.get("from") or options.from_ or default, "$.from")
    if len(from_) != 1:
        raise SerializationError(
            "$.from", f"expected one sender, got {len(from_)}; set from on the connection"
        )
    to, cc, bcc = (
        _mailboxes(fields.get(name) or getattr(options, name), f"$.{name}") for name in ("to", "cc", "bcc")
    )
    if not (to or cc or bcc):
        raise SerializationError("$.to", "expected a recipient, got none; set to, cc or bcc")
    back = _mailboxes(fields.get("return_path") or options.return_path, "$.return_path") or from_
    return _People(from_[0], back[0], to, cc, bcc)


def _mailboxes(given: Any, where: str) -> list[Mailbox]:
    if given is None:
        return []
    if isinstance(given, list | tuple) and not isinstance(given, Mailbox):
        return [_mailbox(one, f"{where}[{at}]") for at, one in enumerate(given)]
    return [_mailbox(given, where)]


def _mailbox(given: Any, where: str) -> Mailbox:
    if isinstance(given, Mailbox):
        return given
    name = ""
    if isinstance(given, Mapping) and set(given) <= {"name", "address"} and "address" in given:
        name, given = _text(given.get("name"), f"{where}.name"), given["address"]
    try:
        return read_mailbox(_text(given, where), name)
    except ValueError as error:
        raise SerializationError(where, str(error)) from None


def _people_lines(people: _People) -> Iterator[str]:
    yield address_field("From", [people.sender.header])
    for attribute, name in _SHOWN:
        if mailboxes := getattr(people, attribute):
            yield address_field(name, [one.header for one in mailboxes])
    if not (people.to or people.cc):
        yield "To: undisclosed-recipients:;"


def _extra_headers(message: Delivery, given: EmailMessage | Mapping[str, Any]) -> dict[str, str]:
    """Return a line for each further header, by its name in small letters."""
    lines = {}
    for name, value in message.headers.items():
        lines[name.lower()] = _header(name, value, f"headers.{name}")
    own = None if isinstance(given, EmailMessage) else given.get("headers")
    if own is not None:
        if not isinstance(own, Mapping):
            raise SerializationError("$.headers", f"expected a table, got {type(own).__name__}")
        for name, value in own.items():
            where = f"$.headers.{name}"
            lines[_text(name, where).lower()] = _header(name, value, where)
    return lines


def _header(name: str, value: Any, where: str) -> str:
    if name.lower() in _OURS or name.lower().startswith("content-"):
        raise SerializationError(where, "this header is written from the mail's own fields")
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = str(value)
    return _line(where, name, _text(value, where))


def _line(where: str, name: str, value: str) -> str:
    try:
        return field(name, value)
    except ValueError as error:
        raise SerializationError(where, str(error)) from None


def _message_id(message: Delivery, sender: Mailbox) -> str:
    try:
        domain = sender.domain if sender.domain[:1] != "[" else "localhost"
        return message_id(message.id, domain)
    except ValueError as error:
        raise SerializationError("id", str(error)) from None


def _written(fields: Mapping[str, Any], options: SmtpOptions, limit: int | None) -> bytes:
    text, html = fields.get("text"), fields.get("html")
    return content_of(
        None if text is None else _text(text, "$.text"),
        None if html is None else _text(html, "$.html"),
        list(_attachments(fields.get("attachments"), options, limit)),
    )


def _attachments(given: Any, options: SmtpOptions, limit: int | None) -> Iterator[Attachment]:
    if given is None:
        return
    if not isinstance(given, list | tuple):
        raise SerializationError("$.attachments", f"expected a list, got {type(given).__name__}")
    for at, one in enumerate(given):
        where = f"$.attachments[{at}]"
        yield read_attachment(one, where, folder=options.attachment_folder, limit=limit)


def _text(value: Any, where: str, default: str = "") -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise SerializationError(where, f"expected text, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SerializationError(where, "text with a lone surrogate, which UTF-8 cannot hold") from None
    return value
