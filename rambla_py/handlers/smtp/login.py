"""Opening of a relay's connection: greeting, TLS, login."""

from __future__ import annotations

import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Sequence

from rambla_py._internal.tls import client_context
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import secret_text
from rambla_py.handlers.smtp.errors import connect_error, line_of
from rambla_py.handlers.smtp.settings import SmtpSettings, SmtpTls

__all__ = ["open_smtp", "where_of"]

_READY = 220
_LOGGED_IN = (235, 503)


class _Smtp(smtplib.SMTP):
    """A client, not yet connected, whose socket can start TLS with the first byte."""

    def __init__(
        self, *, wrap: ssl.SSLContext | None, server_name: str, hostname: str, timeout_s: float
    ) -> None:
        super().__init__(local_hostname=hostname, timeout=timeout_s)
        self._wrap, self._server_name = wrap, server_name

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._wrap is None:
                return plain
            return self._wrap.wrap_socket(plain, server_hostname=self._server_name)
        except BaseException:
            plain.close()
            raise

    def start_tls(self, context: ssl.SSLContext) -> tuple[int, bytes]:
        """Send STARTTLS and start TLS; the features known before are discarded (RFC 3207)."""
        code, text = self.docmd("STARTTLS")
        if code == _READY:
            assert self.sock is not None
            self.sock = context.wrap_socket(self.sock, server_hostname=self._server_name)
            self.file = None
            self.helo_resp = self.ehlo_resp = None
            self.esmtp_features, self.does_esmtp = {}, False
            self.ehlo_or_helo_if_needed()
        return code, text


def where_of(settings: SmtpSettings) -> str:
    """Return the relay's name for errors and logs."""
    host, port = settings.address
    return f"smtp relay {host}:{port}"


def open_smtp(settings: SmtpSettings) -> smtplib.SMTP:
    """Return a client that is connected, encrypted and logged in as the settings say.

    Raises ``AccessError`` if the certificate, the login or the connection is refused for good, or if the
    relay does not offer what the settings need; ``ConnectionLostError`` otherwise.
    """
    where, tls = where_of(settings), settings.tls if isinstance(settings.tls, SmtpTls) else SmtpTls()
    context = None if settings.mode == "never" else client_context(tls, where)
    smtp = _Smtp(
        wrap=context if settings.mode == "tls" else None,
        server_name=tls.server_name or settings.address[0],
        hostname=settings.hostname or "localhost",
        timeout_s=settings.connect_timeout_s,
    )
    try:
        _greet(smtp, settings)
        if context is not None and settings.mode == "starttls":
            _start_tls(smtp, context, where)
        if settings.username is not None:
            _log_in(smtp, settings.username, secret_text(settings.password) or "", where)
    except ConnectionLostError:
        smtp.close()
        raise
    except (OSError, UnicodeError) as error:  # smtplib's own errors are OSErrors
        smtp.close()
        raise connect_error(error, where, timeout_s=settings.connect_timeout_s, mode=settings.mode) from error
    except BaseException:
        smtp.close()
        raise
    return smtp


def _greet(smtp: _Smtp, settings: SmtpSettings) -> None:
    code, text = smtp.connect(*settings.address)
    if code != _READY:
        raise smtplib.SMTPConnectError(code, text)
    if settings.hostname is None and smtp.sock is not None:
        smtp.local_hostname = _literal(smtp.sock)  # looking up our own name may take seconds
    smtp.ehlo_or_helo_if_needed()


def _start_tls(smtp: _Smtp, context: ssl.SSLContext, where: str) -> None:
    if not smtp.has_extn("starttls"):
        raise AccessError(
            f"{where} does not offer STARTTLS; set tls = 'tls' for a port where TLS starts with "
            "the first byte, or 'never' on a trusted network"
        )
    code, text = smtp.start_tls(context)
    if code != _READY:
        raise smtplib.SMTPConnectError(code, text)


def _log_in(smtp: _Smtp, username: str, password: str, where: str) -> None:
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    if not offered:
        private = isinstance(smtp.sock, ssl.SSLSocket)
        hint = "remove the username" if private else "many relays offer one only with TLS: set tls"
        raise AccessError(f"{where} offers no login; {hint}")
    if not (username + password).isascii():
        _log_in_with_utf8(smtp, username, password, where, offered)
        return
    try:
        smtp.login(username, password)
    except (smtplib.SMTPResponseException, smtplib.SMTPServerDisconnected):
        raise
    except smtplib.SMTPException:
        raise AccessError(
            f"{where} offers {', '.join(offered)}; supported are CRAM-MD5, PLAIN and LOGIN"
        ) from None
    finally:
        smtp.user = smtp.password = ""  # smtplib would keep them


def _log_in_with_utf8(smtp: _Smtp, username: str, password: str, where: str, offered: Sequence[str]) -> None:
    """Log in with a name or password that is not ASCII: smtplib cannot, and only PLAIN can (RFC 4616)."""
    if "PLAIN" not in offered:
        raise AccessError(f"{where} does not offer AUTH PLAIN, which a login that is not ASCII needs")
    response = b64encode(f"\0{username}\0{password}".encode()).decode()
    code, text = smtp.docmd("AUTH", f"PLAIN {response}")
    if code not in _LOGGED_IN:
        raise smtplib.SMTPAuthenticationError(code, line_of(text))


def _literal(sock: socket.socket) -> str:
    """Return the address of this end as an EHLO argument."""
    address = sock.getsockname()[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
