"""Configuration tables of the ``smtp`` handler."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py._internal.host_names import ascii_host
from rambla_py._internal.import_paths import import_object
from rambla_py._internal.tls import TlsTable
from rambla_py.errors import HandlerError
from rambla_py.handler import Secret, per_channel, routing
from rambla_py.handlers.smtp.addresses import Mailbox, read_mailbox, read_return_path
from rambla_py.handlers.smtp.pinning import Addresses

__all__ = ["SmtpOptions", "SmtpSettings", "SmtpTls", "configured_addresses", "find_generator"]

_PORTS = {"never": 25, "starttls": 587, "tls": 465}

_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Field = Literal["to", "cc", "bcc", "from", "reply_to", "sender", "return_path"]

AddressList = str | list[str]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that refuses unknown keys."""


class SmtpTls(TlsTable, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``tls`` table, and when TLS starts."""

    mode: Annotated[
        Literal["starttls", "tls"],
        Meta(description="start TLS after the greeting, or with the first byte"),
    ] = "starttls"


class SmtpSettings(_Table, frozen=True, kw_only=True):
    """The table of an ``smtp`` connection.

    >>> SmtpSettings(relay="mail.example.com").address
    ('mail.example.com', 587)
    """

    relay: Annotated[str, Meta(min_length=1, description="host name or address, or host:port")] = "localhost"
    port: Annotated[
        _Port | None, Meta(description="TCP port; default 587 with starttls, 465 with tls, 25 with neither")
    ] = None
    username: Annotated[str | None, Meta(description="user name for the login; without it there is none")] = (
        None
    )
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    tls: Annotated[
        Literal["never", "starttls", "tls"] | SmtpTls,
        Meta(description="encryption of the connection: a mode, or a table with a mode"),
    ] = "starttls"
    hostname: Annotated[
        str | None, Meta(description="name sent with EHLO; default the address of this end")
    ] = None
    from_: Annotated[
        str | None,
        Meta(description="From address where the channel has none; pinned"),
    ] = msgspec.field(default=None, name="from")
    reply_to: Annotated[
        AddressList, Meta(description="Reply-To addresses where the channel has none; pinned")
    ] = []
    sender: Annotated[str | None, Meta(description="Sender address where the channel has none; pinned")] = (
        None
    )
    return_path: Annotated[str | None, Meta(description="return path where the channel has none; pinned")] = (
        None
    )
    connect_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e9, description="time-out of connecting, and of each reply until the login is done"),
    ] = 10.0
    read_timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="time-out of each later reply; keep it below attempt_timeout_s")
    ] = 25.0

    def __post_init__(self) -> None:
        _ = self.address
        for name in ("from", "reply_to", "sender", "return_path"):
            _check_mailboxes(name, _value(self, name))
        if self.password is not None and self.username is None:
            raise ValueError("a password without a username; set both")
        if self.hostname is not None and not (self.hostname.isascii() and self.hostname.isprintable()):
            raise ValueError("hostname is not ASCII")
        if self.hostname is not None and (" " in self.hostname or not self.hostname):
            raise ValueError("hostname is empty, or has a space in it")

    @property
    def mode(self) -> Literal["never", "starttls", "tls"]:
        """Whether and when TLS starts."""
        return self.tls.mode if isinstance(self.tls, SmtpTls) else self.tls

    @property
    def address(self) -> tuple[str, int]:
        """Host, in ASCII, and port of the relay."""
        host, port = _split(self.relay)
        if port is not None and self.port is not None:
            raise ValueError("the port is set both in relay and in port; set it once")
        return ascii_host(host), port or self.port or _PORTS[self.mode]


class SmtpOptions(_Table, frozen=True, kw_only=True):
    """The options of an ``smtp`` channel.

    >>> SmtpOptions(to="Shop <orders@shop.example>", subject="An order").partial
    False
    """

    from_: Annotated[
        str | None, Meta(description="From address, as name@example.com or Name <name@example.com>")
    ] = msgspec.field(default=None, name="from")
    to: Annotated[AddressList, routing("recipients, one address to a string")] = []
    cc: Annotated[AddressList, routing("further recipients, visible to all")] = []
    bcc: Annotated[AddressList, routing("further recipients, visible to none")] = []
    reply_to: Annotated[AddressList, Meta(description="addresses that replies go to")] = []
    sender: Annotated[str | None, Meta(description="address of who sends on behalf of the From address")] = (
        None
    )
    return_path: Annotated[
        str | None,
        Meta(description="address for bounces, default the From address; '<>' for mail that must not bounce"),
    ] = None
    allow: Annotated[
        list[_Field],
        per_channel("address fields that a mail may set although the channel or its connection sets them"),
    ] = []
    subject: Annotated[str, Meta(description="subject where the mail has none")] = ""
    generator: Annotated[
        str | None,
        per_channel(
            '"module:function" that makes the mail from the payload: a string, a mapping, or an EmailMessage'
        ),
    ] = None
    partial: Annotated[
        bool,
        Meta(
            description="when the relay refuses some recipients: true sends to the others, and the result "
            "names the refused; false sends to none, and the attempt fails"
        ),
    ] = False
    attachment_folder: Annotated[
        str | None,
        per_channel("folder of the attachments whose path is a string; without it such a path is refused"),
    ] = None

    def __post_init__(self) -> None:
        for name in ("from", "return_path", "to", "cc", "bcc", "reply_to", "sender"):
            _check_mailboxes(name, _value(self, name))
        if self.generator is not None:
            find_generator(self.generator)


def configured_addresses(options: SmtpOptions, settings: SmtpSettings) -> Addresses:
    """Return the addresses that a channel, or else its connection, sets.

    >>> configured_addresses(SmtpOptions(to="a@example.com"), SmtpSettings(sender="b@example.com"))
    {'to': [Mailbox(address='a@example.com', name='')], 'sender': [Mailbox(address='b@example.com', name='')]}
    """
    found = {}
    for name in ("to", "cc", "bcc", "from", "reply_to", "sender", "return_path"):
        given = _value(options, name) or _value(settings, name)
        if given:
            found[name] = [_read(name, one) for one in ([given] if isinstance(given, str) else given)]
    return found


@functools.lru_cache(maxsize=256)
def find_generator(path: str) -> Callable[[Any], Any]:
    """Return the function at a path; raises ``ValueError``."""
    if ":" not in path:
        raise ValueError(f"generator = {path!r} is not of the form 'module:function'")
    try:
        found = import_object(path)
    except HandlerError as error:
        raise ValueError(f"generator = {path!r}: {error.reason}") from error
    except Exception as error:  # whatever the import of the user's module raises
        raise ValueError(f"importing {path!r} raised {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"generator = {path!r} is not callable")
    return found  # type: ignore[no-any-return]  # checked above


def _value(table: SmtpOptions | SmtpSettings, name: str) -> AddressList | None:
    found: AddressList | None = getattr(table, "from_" if name == "from" else name, None)
    return found


def _read(name: str, text: str) -> Mailbox:
    return read_return_path(text) if name == "return_path" else read_mailbox(text)


def _check_mailboxes(name: str, given: AddressList | None) -> None:
    for text in [given] if isinstance(given, str) else given or []:
        try:
            _read(name, text)
        except ValueError as error:
            raise ValueError(f"{name} = {text!r}: {error}") from None


def _split(relay: str) -> tuple[str, int | None]:
    """Return host and port; an IPv6 address with a port is in brackets."""
    if relay.startswith("["):
        host, _, rest = relay[1:].partition("]")
        port = rest.removeprefix(":")
    elif relay.count(":") == 1:
        host, _, port = relay.partition(":")
    else:
        host, port = relay, ""
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)):
        raise ValueError("relay is not of the form host or host:port")
    return host, int(port) if port else None
