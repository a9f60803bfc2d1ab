"""This module is the handler that sends mail through a relay."""

from __future__ import annotations

import logging
import smtplib
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler, State
from rambla_py.handlers.smtp.compose import compose
from rambla_py.handlers.smtp.connection import open_smtp, where_of
from rambla_py.handlers.smtp.settings import SmtpConnection, SmtpOptions
from rambla_py.handlers.smtp.wire import Sent, SmtpWire

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["SmtpHandler"]

log = logging.getLogger("rambla_py.smtp")


class SmtpHandler(Handler):
    """Sends each message as a mail, over a connection that is kept from one mail to the next.

    The payload is the text of the mail, or a mapping with ``to``, ``cc``, ``bcc``, ``from``, ``subject``,
    ``text``, ``html``, ``attachments``, ``headers``, ``return_path``, or an ``email.message.EmailMessage``;
    a ``generator`` makes one of these of any payload. What the payload says goes over the options. Headers of
    the message become headers of the mail, and its id becomes the Message-ID.

    At least once: a mail is ok when the relay has taken it. After a loss between the end of the mail and the
    answer it may come twice, with the same Message-ID. One worker sends in the order it was given; a message
    that is retried comes later.

    A mail goes to all of its recipients or to none: when the relay refuses some of them the attempt fails
    before anything is sent, so a retry mails nobody twice. With ``partial`` it goes to those that the relay
    takes, and the result names the others; it is then not retried. The result has ``message_id``, ``reply``
    and ``refused``.

    Answers of 4xx are retried, of 5xx fatal; 421 is a lost connection. A mail over the relay's SIZE, an
    address that it cannot take, and a header or an address with the end of a line in it are fatal before
    anything is sent. A callable payload is given a ``smtplib.SMTP``, logged in, on a connection beside this.

    >>> SmtpHandler.Options(to=["ann@example.com"], subject="Hello").partial
    False
    """

    Connection: ClassVar[Any] = SmtpConnection
    Options: ClassVar[Any] = SmtpOptions
    guarantee: ClassVar[str] = (
        "at least once, for all recipients or none (with partial for those the relay takes); after a loss "
        "between the mail and the answer it may come twice with the same Message-ID; in sequence within a "
        "worker, retried messages aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._clients: dict[int, smtplib.SMTP] = {}

    def connect(self) -> SmtpWire:
        """Connect, begin TLS and log in, as the connection says."""
        smtp = open_smtp(self.settings)
        return SmtpWire(smtp, where_of(self.settings), read_timeout_s=self.settings.read_timeout_s)

    def close(self, connection: SmtpWire) -> None:
        """Say QUIT and close, also what callables were given; from any thread."""
        connection.close()
        client = self._clients.pop(id(connection), None)
        if client is not None:
            client.close()

    def ping(self, connection: SmtpWire) -> None:
        """Send NOOP."""
        connection.ping()

    def handle_publish(self, message: Delivery, options: Any, state: State) -> Sent:
        """Write the mail and hand it over; what is wrong with the mail is found before anything is sent."""
        wire: SmtpWire = state.connection
        wire.check()
        mail = compose(message, options or SmtpOptions(), sender=self.settings.from_, limit=wire.limit)
        try:
            sent = wire.send(mail, partial=options is not None and options.partial)
        finally:
            if wire.lost is not None:
                self.link.lost(wire.lost)
        if sent.refused:
            # The outcome is ok, and nobody may be looking at its result.
            named = "; ".join(f"{who}: {why}" for who, why in sent.refused.items())
            log.warning("%s.%s: %s was not sent to %s", self.service, self.channel, message.id, named)
        return sent

    def destination(self, connection: SmtpWire) -> smtplib.SMTP:
        """Return a ``smtplib.SMTP`` to the same relay, opened when there is none or it went."""
        client = self._clients.get(id(connection))
        if client is None or not _answers(client):
            client = self._clients[id(connection)] = open_smtp(self.settings)
        return client


def _answers(client: smtplib.SMTP) -> bool:
    """Say whether a client is still connected, and begins anew."""
    try:
        return client.rset()[0] == 250
    except (OSError, smtplib.SMTPException):
        client.close()
        return False
