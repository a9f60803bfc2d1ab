"""The ``smtp`` handler."""

from __future__ import annotations

import logging
import smtplib
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler, Preflight, State
from rambla_py.handlers.smtp.connection import Sent, SmtpConnection
from rambla_py.handlers.smtp.encode import compose
from rambla_py.handlers.smtp.errors import masked
from rambla_py.handlers.smtp.login import open_smtp, where_of
from rambla_py.handlers.smtp.preflight import look
from rambla_py.handlers.smtp.settings import SmtpOptions, SmtpSettings
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["SmtpHandler"]

log = logging.getLogger("rambla_py.handlers.smtp")


class SmtpHandler(Handler):
    """Sends each message as a mail, over a connection that is kept from one mail to the next.

    The payload is the text of the mail, or a mapping with ``to``, ``cc``, ``bcc``, ``from``, ``reply_to``,
    ``sender``, ``return_path``, ``subject``, ``text``, ``html``, ``attachments``, ``headers``, or an
    ``email.message.EmailMessage``; a ``generator`` makes one of these from any payload. Headers of the
    message become headers of the mail, and its id becomes the Message-ID.

    Addresses that the channel or the connection sets are pinned: a mail that sets one to another value is
    fatal, unless ``allow`` names the field. ``to``, ``cc`` and ``bcc`` are pinned together.

    At least once: a mail is ok when the relay has accepted it. After a loss between the end of the mail and
    the reply it may be sent twice, with the same Message-ID. One worker keeps the order of its messages; a
    retried message comes later.

    A mail goes to all of its recipients or to none: when the relay refuses some of them, the attempt fails
    before anything is sent, so a retry sends no mail twice. With ``partial`` it goes to those that the relay
    accepts, and the result names the others; it is then not retried. The result has ``message_id``, ``reply``
    and ``refused``.

    421 at any time, and 4xx before RCPT, end the session, and the relay counts as unavailable. 4xx at RCPT or
    later is retried, 5xx is fatal. A mail over the relay's SIZE, an invalid address, and a header or an
    address with a line break in it are fatal before anything is sent. Errors and logs name no recipient. A
    callable payload is called with a ``smtplib.SMTP``, logged in, on a second connection.

    >>> SmtpHandler.Options(to=["ann@example.com"], subject="Hello").partial
    False
    """

    Connection: ClassVar[Any] = SmtpSettings
    Options: ClassVar[Any] = SmtpOptions
    control_headers: ClassVar[tuple[str, ...]] = (
        "From",
        "To",
        "Cc",
        "Bcc",
        "Sender",
        "Reply-To",
        "Return-Path",
        "Resent-*",
        "Mail-Reply-To",
        "Mail-Followup-To",
        "Errors-To",
        "Disposition-Notification-To",
        "Return-Receipt-To",
    )
    guarantee: ClassVar[str] = (
        "at least once, to all recipients or none (with partial to those that the relay accepts); after a "
        "loss between the mail and the reply it may be sent twice with the same Message-ID; in order within "
        "a worker, retried messages aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._clients: dict[int, smtplib.SMTP] = {}

    def connect(self) -> SmtpConnection:
        """Connect, start TLS and log in."""
        smtp = open_smtp(self.settings)
        return SmtpConnection(smtp, where_of(self.settings), read_timeout_s=self.settings.read_timeout_s)

    def close(self, connection: SmtpConnection) -> None:
        """Send QUIT and close, also the connection for callables; from any thread."""
        connection.close()
        client = self._clients.pop(id(connection), None)
        if client is not None:
            client.close()

    def ping(self, connection: SmtpConnection) -> None:
        """Send NOOP."""
        connection.ping()

    def preflight(self, connection: SmtpConnection, report: Preflight) -> None:
        """Begin a mail with the configured addresses, on a connection of its own, and take it back."""
        look(self.settings, self.options or SmtpOptions(), report)

    def handle_publish(self, message: Delivery, options: Any, state: State) -> Sent:
        """Send the mail; a wrong mail is found before anything is sent."""
        connection: SmtpConnection = state.connection
        connection.check()
        mail = compose(message, options or SmtpOptions(), settings=self.settings, limit=connection.limit)
        try:
            sent = connection.send(mail, partial=options is not None and options.partial)
        finally:
            if connection.lost is not None:
                self.link.lost(connection.lost)
        if sent.refused:
            # The outcome is ok, and the application may not look at its result.
            number, replies = len(sent.refused), "; ".join(sorted(set(map(masked, sent.refused.values()))))
            log.warning(
                "%s.%s: %s was not sent to %d of its recipients: %s",
                self.service,
                self.channel,
                message.id,
                number,
                replies,
                extra={**target_extra(self), "rambla_message_id": message.id},
            )
        return sent

    def destination(self, connection: SmtpConnection) -> smtplib.SMTP:
        """Return a ``smtplib.SMTP`` to the same relay; opened if there is none, or if it was lost."""
        client = self._clients.get(id(connection))
        if client is None or not _answers(client):
            client = self._clients[id(connection)] = open_smtp(self.settings)
        return client


def _answers(client: smtplib.SMTP) -> bool:
    """Return whether a client is still connected; resets it."""
    try:
        return client.rset()[0] == 250
    except (OSError, smtplib.SMTPException):
        client.close()
        return False
