"""Conversion of a message to a mail: envelope, header and body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.message import Message as OldMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py.errors import (
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RamblaError,
    SerializationError,
    nearest,
)
from rambla_py.handlers.smtp.addresses import Mailbox, read_mailbox, read_return_path
from rambla_py.handlers.smtp.attachments import Attachment, read_attachment
from rambla_py.handlers.smtp.email_message import (
    addresses_of_email,
    content_of_email,
    mailboxes_of_header,
)
from rambla_py.handlers.smtp.headers import field, message_id
from rambla_py.handlers.smtp.mime import content_of
from rambla_py.handlers.smtp.pinning import (
    FIELDS,
    HEADER_FIELDS,
    PINNED_HEADERS,
    Addresses,
    pinned_fields,
    refused,
    resolve,
)
from rambla_py.handlers.smtp.policy import ADDRESS_HEADERS, address_field
from rambla_py.handlers.smtp.settings import (
    SmtpOptions,
    SmtpSettings,
    configured_addresses,
    find_generator,
)
from rambla_py.serialization.encoding import as_object

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["LIMIT_NAME", "Mail", "compose"]

LIMIT_NAME = "the relay's limit (SIZE in its EHLO)"

_KEYS = (*FIELDS, "subject", "text", "html", "attachments", "headers")
_RESERVED = frozenset(
    {"from", "to", "cc", "bcc", "subject", "message-id", "mime-version", "return-path", "resent-bcc"}
)
_NEW_KIND = (
    "make an email.message.EmailMessage, or read it as one: "
    "email.message_from_bytes(mail.as_bytes(), policy=email.policy.SMTP)"
)
_HEADERS = (("sender", "Sender"), ("to", "To"), ("cc", "Cc"), ("reply_to", "Reply-To"))
_Content = EmailMessage | Mapping[str, Any]
_NO_SETTINGS = SmtpSettings()


class Mail(NamedTuple):
    """A mail ready to send: the envelope, and the bytes, with lines that end in CR LF."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    message_id: str
    utf8: bool


class _Lines(NamedTuple):
    """Headers of a message or a mail: the lines by lower-case name, and the address fields among them."""

    lines: dict[str, str]
    addresses: dict[str, Sequence[Mailbox]]


def compose(
    message: Delivery,
    options: SmtpOptions,
    *,
    settings: SmtpSettings = _NO_SETTINGS,
    limit: int | None = None,
) -> Mail:
    """Return the mail of a message: the payload's own values, else those of the options, else the settings.

    Address fields that options or settings set are pinned (see ``pinning``). ``limit`` is the largest mail
    that the relay accepts, in bytes.

    Raises ``SerializationError`` with the path to the wrong value (``$.to[1]``, ``headers.X-Tenant``),
    ``PermanentError`` for a pinned field, ``PayloadTooLargeError``, and ``DeliveryError`` when the generator
    raises.
    """
    given = _content(message, options)
    headers, own = _headers(_for_others(message.headers), "headers"), _own_headers(given)
    addresses = _addresses(given, headers, own, options, settings)
    lines = headers.lines | own.lines
    if isinstance(given, EmailMessage):
        there = {name.lower() for name in given} - set(lines)
        content = content_of_email(given, without={*lines, *HEADER_FIELDS})
        own_id = given["Message-ID"] if "message-id" in there else None
        subject = None
    else:
        there, own_id = set(lines), None
        content = _body(given, options, limit)
        subject = given.get("subject")
    named = own_id or _message_id(message, addresses["from"][0])
    written = [*_address_lines(addresses), *lines.values()]
    if "subject" not in there:
        written.append(_line("$.subject", "Subject", _text(subject, "$.subject", options.subject)))
    if "date" not in there:
        written.append(f"Date: {format_datetime(datetime.now(UTC))}")
    if own_id is None:
        written.append(f"Message-ID: {named}")
    data = b"%b\r\n%b" % ("\r\n".join(written).encode(), content)
    if limit is not None and len(data) > limit:
        raise PayloadTooLargeError(len(data), limit, LIMIT_NAME)
    return _mail(addresses, data, str(named))


def _mail(addresses: Addresses, data: bytes, named: str) -> Mail:
    recipients = [one for name in ("to", "cc", "bcc") for one in addresses[name]]
    back = (addresses["return_path"] or addresses["from"])[0]
    return Mail(
        back.address,
        tuple(dict.fromkeys(one.address for one in recipients)),
        data,
        named,
        utf8=any(one.utf8 for found in (*addresses.values(), [back]) for one in found),
    )


# -- the payload --------------------------------------------------------------------------------------


def _content(message: Delivery, options: SmtpOptions) -> _Content:
    """Return the mail that the payload is, or that the generator makes; a string is the text of one."""
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
        reason = f"expected a string, a mapping or an EmailMessage, got {type(given).__name__}"
        raise SerializationError("$ (of the generator)", reason)
    try:
        return {"text": message.body().decode()}
    except UnicodeDecodeError:
        raise SerializationError(
            "$", "bytes that are not UTF-8; the text of a mail is a string, bytes go into attachments"
        ) from None


def _formatted(message: Delivery) -> Any:
    """Return the payload as ``format`` wants it: the object in a string, or always a string."""
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


def _body(fields: Mapping[str, Any], options: SmtpOptions, limit: int | None) -> bytes:
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


# -- addresses ----------------------------------------------------------------------------------------


def _addresses(
    given: _Content, headers: _Lines, own: _Lines, options: SmtpOptions, settings: SmtpSettings
) -> dict[str, Sequence[Mailbox]]:
    """Return the mailboxes of each field; what options, settings or the message's headers set is pinned."""
    configured = configured_addresses(options, settings)
    configured = resolve(configured, headers.addresses, pinned_fields(configured, options.allow))
    pinned = pinned_fields(configured, options.allow)
    for name, pinned_by in PINNED_HEADERS.items():
        if pinned_by in pinned and (name in own.lines or (isinstance(given, EmailMessage) and name in given)):
            raise PermanentError(refused(pinned_by))
    found = resolve(configured, _own_addresses(given, own), pinned)
    for name in ("from", "sender", "return_path"):
        if len(found[name]) > 1 or (name == "from" and not found[name]):
            hint = "; set from on the connection" if name == "from" else ""
            raise SerializationError(f"$.{name}", f"expected one address, got {len(found[name])}{hint}")
    if not (found["to"] or found["cc"] or found["bcc"]):
        raise SerializationError("$.to", "expected a recipient, got none; set to, cc or bcc")
    return found


def _own_addresses(given: _Content, own: _Lines) -> dict[str, Sequence[Mailbox]]:
    """Return the addresses that the mail itself sets, in its fields or in its headers."""
    if isinstance(given, EmailMessage):
        return addresses_of_email(given)
    found: dict[str, Sequence[Mailbox]] = {}
    for name in FIELDS:
        if given.get(name):
            found[name] = _mailboxes(given[name], f"$.{name}", null=name == "return_path")
            if name in own.addresses:
                raise SerializationError(f"$.{name}", "set both as a field and in headers; set it once")
    return found | own.addresses


def _mailboxes(given: Any, where: str, *, null: bool = False) -> list[Mailbox]:
    if isinstance(given, list | tuple):
        return [_mailbox(one, f"{where}[{at}]") for at, one in enumerate(given)]
    return [_mailbox(given, where, null=null)]


def _mailbox(given: Any, where: str, *, null: bool = False) -> Mailbox:
    name = ""
    if isinstance(given, Mapping) and set(given) <= {"name", "address"} and "address" in given:
        name, given = _text(given.get("name"), f"{where}.name"), given["address"]
    text = _text(given, where)
    try:
        return read_return_path(text) if null else read_mailbox(text, name)
    except ValueError as error:
        raise SerializationError(where, str(error)) from None


def _address_lines(addresses: Addresses) -> Iterator[str]:
    yield address_field("From", addresses["from"])
    for name, header in _HEADERS:
        if mailboxes := addresses[name]:
            yield address_field(header, mailboxes)
    if not (addresses["to"] or addresses["cc"]):
        yield "To: undisclosed-recipients:;"


# -- headers ------------------------------------------------------------------------------------------


def _for_others(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    # The baggage of a trace says what the application likes about its request; mails leave the house.
    if "traceparent" in headers and "baggage" in headers:
        return {name: value for name, value in headers.items() if name != "baggage"}
    return headers


def _own_headers(given: _Content) -> _Lines:
    own = None if isinstance(given, EmailMessage) else given.get("headers")
    if own is None:
        return _Lines({}, {})
    if not isinstance(own, Mapping):
        raise SerializationError("$.headers", f"expected a table, got {type(own).__name__}")
    return _headers(own, "$.headers")


def _headers(given: Mapping[Any, Any], where: str) -> _Lines:
    found = _Lines({}, {})
    for name, value in given.items():
        path = f"{where}.{name}"
        lower = _text(name, path).lower()
        if lower in HEADER_FIELDS:
            found.addresses[HEADER_FIELDS[lower]] = mailboxes_of_header(_text(value, path), path)
        elif lower in ADDRESS_HEADERS:
            found.lines[lower] = address_field(name, mailboxes_of_header(_text(value, path), path))
        else:
            found.lines[lower] = _header(name, value, path)
    return found


def _header(name: str, value: Any, where: str) -> str:
    if name.lower() in _RESERVED or name.lower().startswith("content-"):
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


def _text(value: Any, where: str, default: str = "") -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise SerializationError(where, f"expected a string, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SerializationError(where, "a string with a lone surrogate, which UTF-8 cannot hold") from None
    return value
