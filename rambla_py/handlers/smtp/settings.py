"""This module is what a user may write in the TOML for the ``smtp`` handler: typed, checked tables."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py.errors import HandlerError
from rambla_py.handler import Secret, per_channel
from rambla_py.handlers.smtp.addresses import read_mailbox
from rambla_py.registry import import_object
from rambla_py.tls import CaFile, CertFile, KeyFile, Verify

__all__ = ["SmtpConnection", "SmtpOptions", "SmtpTls", "find_generator"]

_PORTS = {"never": 25, "starttls": 587, "tls": 465}

_Port = Annotated[int, Meta(ge=1, le=65_535)]

Addresses = str | list[str]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that refuses keys it does not know."""


class SmtpTls(_Table, frozen=True, kw_only=True):
    """How TLS is done; the system's authorities are trusted unless ``ca_file`` names others."""

    mode: Annotated[
        Literal["starttls", "tls"],
        Meta(description="TLS begun after the greeting, or from the first byte on"),
    ] = "starttls"
    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    server_name: Annotated[
        str | None, Meta(description="name that the relay's certificate must have; the relay when not given")
    ] = None
    verify: Verify = True


class SmtpConnection(_Table, frozen=True, kw_only=True):
    """The table of an ``smtp`` connection.

    >>> SmtpConnection(relay="mail.example.com").address
    ('mail.example.com', 587)
    """

    relay: Annotated[str, Meta(min_length=1, description="host name or address, or host:port")] = "localhost"
    port: Annotated[
        _Port | None, Meta(description="TCP port; 587 with starttls, 465 with tls, 25 without either")
    ] = None
    username: Annotated[str | None, Meta(description="user to log in as; nobody logs in without it")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    tls: Annotated[
        Literal["never", "starttls", "tls"] | SmtpTls,
        Meta(description="how the way to the relay is kept private: a word, or a table with its mode"),
    ] = "starttls"
    hostname: Annotated[
        str | None, Meta(description="name that we greet with; the address of our end when not given")
    ] = None
    from_: Annotated[str | None, Meta(description="sender where neither channel nor message has one")] = (
        msgspec.field(default=None, name="from")
    )
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="bound of connecting, and of each answer until mail may be sent")
    ] = 10.0
    read_timeout_s: Annotated[
        float, Meta(gt=0, description="longest silence of the relay; below attempt_timeout_s")
    ] = 25.0

    def __post_init__(self) -> None:
        _ = self.address
        _check_mailboxes("from", self.from_)
        if self.password is not None and self.username is None:
            raise ValueError("a password without a username; give both")
        if self.hostname is not None and not (self.hostname.isascii() and self.hostname.isprintable()):
            raise ValueError("a hostname that is not ASCII")
        if self.hostname is not None and (" " in self.hostname or not self.hostname):
            raise ValueError("a hostname that is empty, or has a blank in it")

    @property
    def mode(self) -> Literal["never", "starttls", "tls"]:
        """Whether, and when, TLS begins."""
        return self.tls.mode if isinstance(self.tls, SmtpTls) else self.tls

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the relay."""
        host, port = _split(self.relay)
        if port is not None and self.port is not None:
            raise ValueError("a port both in relay and beside it; give one of them")
        return host, port or self.port or _PORTS[self.mode]


class SmtpOptions(_Table, frozen=True, kw_only=True):
    """The options of an ``smtp`` channel; a payload that is a mapping may set most of them too.

    >>> SmtpOptions(to="Shop <orders@shop.example>", subject="An order").partial
    False
    """

    from_: Annotated[
        str | None, Meta(description="sender, as address or Name <address>; else the connection's")
    ] = msgspec.field(default=None, name="from")
    to: Annotated[Addresses, Meta(description="recipients, one address a text")] = []
    cc: Annotated[Addresses, Meta(description="further recipients that everybody sees")] = []
    bcc: Annotated[Addresses, Meta(description="further recipients that nobody sees")] = []
    subject: Annotated[str, Meta(description="subject line")] = ""
    return_path: Annotated[
        str | None,
        Meta(description="address that undeliverable mail goes back to; the sender's when not given"),
    ] = None
    generator: Annotated[
        str | None,
        per_channel(
            '"module:function" that is given the payload and returns the mail: a text, a mapping, '
            "or an email.message.EmailMessage"
        ),
    ] = None
    partial: Annotated[
        bool,
        Meta(
            description="when the relay refuses some recipients: true sends to the others, and the result "
            "names the refused; false sends to nobody, and the attempt fails"
        ),
    ] = False
    attachment_folder: Annotated[
        str | None,
        per_channel("folder that attachments named by a text may come from; without it none may"),
    ] = None

    def __post_init__(self) -> None:
        _check_mailboxes("from", self.from_)
        _check_mailboxes("return_path", self.return_path)
        for name in ("to", "cc", "bcc"):
            _check_mailboxes(name, getattr(self, name))
        if self.generator is not None:
            find_generator(self.generator)


@functools.lru_cache(maxsize=256)
def find_generator(path: str) -> Callable[[Any], Any]:
    """Return the function that a path names; raises ``ValueError`` that says what is wrong with the path."""
    if ":" not in path:
        raise ValueError(f"generator = {path!r} is not of the form 'module:function'")
    try:
        found = import_object(path)
    except HandlerError as error:
        raise ValueError(f"generator = {path!r}: {error.reason}") from error
    except Exception as error:  # the module is the user's: whatever its import raises is a wrong path here
        raise ValueError(f"importing {path!r} raised {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"generator = {path!r} is not callable")
    return found  # type: ignore[no-any-return]  # it was asked whether it can be called


def _check_mailboxes(name: str, given: Addresses | None) -> None:
    for text in [given] if isinstance(given, str) else given or []:
        try:
            read_mailbox(text)
        except ValueError as error:
            raise ValueError(f"{name} = {text!r}: {error}") from None


def _split(relay: str) -> tuple[str, int | None]:
    """Return host and port; an IPv6 address with a port stands in brackets."""
    if relay.startswith("["):
        host, _, rest = relay[1:].partition("]")
        port = rest.removeprefix(":")
    elif relay.count(":") == 1:
        host, _, port = relay.partition(":")
    else:
        host, port = relay, ""
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)):
        raise ValueError("a relay that is not of the form host or host:port")
    return host, int(port) if port else None
