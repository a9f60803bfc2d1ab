"""The live connection to an SMTP relay."""

from __future__ import annotations

import os
import select
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from rambla_py.errors import (
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.handlers.smtp.encode import Mail
from rambla_py.handlers.smtp.errors import CLOSING, Reply, line_of, masked, recipients_error, refusal

__all__ = ["Sent", "SmtpConnection"]

_GO_AHEAD = 354
_READ_BYTES = 4096
_MOST_REPLY_BYTES = 65_536
_TAIL_BYTES = 65_536
_MOST_AT_ONCE = 100
"""Few enough commands for one write that neither side blocks on a full socket buffer."""

_QUIT_S = 1.0
_FINAL_REPLY_S = 0.2


class Sent(msgspec.Struct, frozen=True):
    """The result of a delivery: the Message-ID, the relay's reply, and the refused recipients with replies.

    ``refused`` is empty unless ``partial`` is on. A reply that starts with 4 may be different next time.
    """

    message_id: str
    reply: str
    refused: dict[str, str] = {}


class _RepliedError(ConnectionError):
    """The relay replied and closed the connection: 421, or a refusal while the mail was being written."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(f"the relay sent {masked(reply)} and closed the connection")


class SmtpConnection:
    """A live connection, logged in, for one thread; only ``close`` may be called from another.

    ``lost`` is the reason why the connection is unusable, or None. ``limit`` is the relay's largest mail in
    bytes.
    """

    def __init__(self, smtp: smtplib.SMTP, where: str, *, read_timeout_s: float) -> None:
        if smtp.sock is None:
            raise ConnectionLostError(f"{where} closed the connection")
        self.where = where
        self.lost: ConnectionLostError | None = None
        self.limit = _limit(smtp.esmtp_features.get("size", ""))
        self.utf8 = smtp.has_extn("smtputf8")
        self._sized = smtp.has_extn("size")
        self._pipelining = smtp.has_extn("pipelining")
        self._socket: socket.socket = smtp.sock
        self._timeout_s = read_timeout_s
        self._owner = os.getpid()
        self._busy = False
        self._buffer = bytearray()
        smtp.file = None  # this class reads the socket itself: the file's lock would outlive a fork
        self._socket.settimeout(read_timeout_s)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __repr__(self) -> str:
        return f"<SmtpConnection {self.where}{', lost' if self.lost else ''}>"

    def check(self) -> None:
        """Raise ``ConnectionLostError`` if the relay has closed the connection since the last mail."""
        if self.lost is None and (self._buffer or self._poll.poll(0)):
            self._read_unsolicited()
        if self.lost is not None:
            raise self.lost

    def ping(self) -> None:
        """Send NOOP; raises when the relay does not accept it."""
        self.check()
        with self._in_use("NOOP"):
            (reply,) = self._exchange([b"NOOP\r\n"])
        if not reply.positive:
            raise refusal(reply, during="NOOP")

    def send(self, mail: Mail, *, partial: bool) -> Sent:
        """Send a mail; with ``partial`` to those recipients that the relay accepts.

        Raises ``ConnectionLostError`` if nothing was sent, ``UnknownOutcomeError`` if the reply to the whole
        mail is missing, ``UnavailableError`` if the relay takes no mail now (the session has then ended), and
        the other errors of ``refusal`` and ``recipients_error``.
        """
        self.check()
        if mail.utf8 and not self.utf8:
            raise PermanentError(
                f"{self.where} does not offer SMTPUTF8, which a local part that is not ASCII needs"
            )
        with self._in_use("the envelope"):
            refused = self._envelope(mail, partial=partial)
        self._body(mail.data)
        with self._in_use("the wait for the reply to the mail", unknown=True):
            reply = self._reply()
        if not reply.positive:
            raise self._ending(refusal(reply, during="the mail"))
        return Sent(mail.message_id, str(reply), {who: str(why) for who, why in refused.items()})

    def close(self) -> None:
        """Send QUIT where possible, and close; from any thread. May be called twice."""
        # Not in a forked child: the connection belongs to its parent.
        if os.getpid() == self._owner:
            if self.lost is None and not self._busy:
                self._quit()
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # wakes a thread that reads it
        self._socket.close()
        self.lost = self.lost or ConnectionLostError(f"the connection to {self.where} is closed")

    # -- a mail ---------------------------------------------------------------------------------------

    def _envelope(self, mail: Mail, *, partial: bool) -> dict[str, Reply]:
        """Send sender, recipients and DATA; return the refused recipients."""
        commands = [self._mail_from(mail), *(b"RCPT TO:<%b>\r\n" % who.encode() for who in mail.recipients)]
        # After the go-ahead the recipients cannot change: with several of them and without partial, wait for
        # their replies before DATA.
        at_once = self._pipelining and (partial or len(mail.recipients) == 1)
        replies = self._exchange([*commands, b"DATA\r\n"] if at_once else commands)
        go_ahead = replies.pop() if at_once else None
        refused = {
            who: reply for who, reply in zip(mail.recipients, replies[1:], strict=False) if not reply.positive
        }
        problem = self._problem(replies[0], refused, mail.recipients, partial=partial)
        if problem is None and go_ahead is None:
            (go_ahead,) = self._exchange([b"DATA\r\n"])
        if problem is None and go_ahead is not None and go_ahead.code != _GO_AHEAD:
            problem = refusal(go_ahead, during="DATA")
        if problem is not None:
            self._reset(go_ahead, problem)
            raise self._ending(problem)
        return refused

    def _mail_from(self, mail: Mail) -> bytes:
        size = b" SIZE=%d" % len(mail.data) if self._sized else b""
        utf8 = b" BODY=8BITMIME SMTPUTF8" if mail.utf8 else b""
        return b"MAIL FROM:<%b>%b%b\r\n" % (mail.sender.encode(), size, utf8)

    def _problem(
        self, sender: Reply, refused: dict[str, Reply], recipients: Sequence[str], *, partial: bool
    ) -> DeliveryError | None:
        if not sender.positive:
            return refusal(sender, during="MAIL FROM")
        for reply in refused.values():
            problem = refusal(reply, during="RCPT TO")
            if isinstance(problem, ConnectionLostError):  # a login is needed, or it is no reply to RCPT
                return problem
        if refused and not (partial and len(refused) < len(recipients)):
            by_place = {recipients.index(who) + 1: reply for who, reply in refused.items()}
            return recipients_error(by_place, len(recipients))
        return None

    def _reset(self, go_ahead: Reply | None, problem: DeliveryError) -> None:
        """Prepare the connection for the next mail; one that cannot be reset, or is to end, is lost."""
        if isinstance(problem, UnavailableError):
            return
        try:
            if go_ahead is not None and go_ahead.code == _GO_AHEAD:
                # RFC 2920 allows a go-ahead without recipients: an empty mail ends it.
                self._exchange([b".\r\n"])
            (reply,) = self._exchange([b"RSET\r\n"])
            if not reply.positive:
                raise ConnectionError(f"it answered RSET with {masked(reply)}")
        except OSError as error:
            self.lost = self._loss(error, "RSET")

    def _body(self, data: bytes) -> None:
        """Write the mail and its end; raises ``ConnectionLostError`` until the end is being written."""
        data = b"%b.\r\n" % data.replace(b"\r\n.", b"\r\n..")
        view, tail = memoryview(data), max(0, len(data) - _TAIL_BYTES)
        with self._in_use("the mail"):
            self._write(view[:tail])
        with self._in_use("the end of the mail", unknown=True):
            self._write(view[tail:])

    # -- commands and replies -------------------------------------------------------------------------

    def _exchange(self, commands: Sequence[bytes]) -> list[Reply]:
        """Write commands and read their replies; without pipelining none follows a refused first one."""
        replies: list[Reply] = []
        step = _MOST_AT_ONCE if self._pipelining else 1
        for at in range(0, len(commands), step):
            piece = commands[at : at + step]
            self._write(b"".join(piece))
            for _ in piece:
                replies.append(self._reply())
                if replies[-1].code == CLOSING:
                    raise _RepliedError(replies[-1])
            if not replies[0].positive and step == 1:
                break
        return replies

    def _write(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._final_reply(error) from error

    def _final_reply(self, error: OSError) -> OSError:
        """Return the error of a failed write, with the reply that the relay may have sent before it."""
        with suppress(OSError):
            self._socket.settimeout(_FINAL_REPLY_S)
            return _RepliedError(self._reply())
        return error

    def _reply(self) -> Reply:
        lines: list[bytes] = []
        size = 0
        while size <= _MOST_REPLY_BYTES:
            line = self._line()
            code = line[:3]
            if not (len(code) == 3 and code.isdigit()):
                raise ConnectionError(f"a reply that is not SMTP: {masked(line_of(line[:200]))!r}")
            lines.append(line[4:])
            if line[3:4] != b"-":
                return Reply(int(code), line_of(b" ".join(lines)))
            size += len(line)
        raise ConnectionError("a reply without an end")

    def _line(self) -> bytes:
        buffer = self._buffer
        while (end := buffer.find(b"\n")) < 0:
            if len(buffer) > _MOST_REPLY_BYTES:
                raise ConnectionError("a reply without an end")
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the relay closed it")
            buffer += data
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        return line

    # -- losses ---------------------------------------------------------------------------------------

    @contextmanager
    def _in_use(self, during: str, *, unknown: bool = False) -> Iterator[None]:
        """Turn errors of the socket into delivery errors; ``unknown``: the mail may have been accepted."""
        self._busy = True
        try:
            yield
        except OSError as error:
            self.lost = self._loss(error, during)
            if isinstance(error, _RepliedError) and error.reply.code >= 400:
                raise refusal(error.reply, during=during) from error
            raise UnknownOutcomeError(str(self.lost)) if unknown else self.lost from error
        finally:
            self._busy = False

    def _ending(self, problem: DeliveryError) -> DeliveryError:
        """Return the problem of a mail; one that concerns the session ends it."""
        if isinstance(problem, ConnectionLostError):
            self.lost = problem
        elif isinstance(problem, UnavailableError):
            self._quit()
            self.lost = ConnectionLostError(str(problem))
        return problem

    def _loss(self, error: OSError, during: str) -> ConnectionLostError:
        lost = ConnectionLostError(
            f"the connection to {self.where} was lost during {during}: {self._reason(error)}"
        )
        lost.__cause__ = error
        return lost

    def _reason(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"no reply within read_timeout_s = {self._timeout_s:g}"
        return str(error) or type(error).__name__

    def _read_unsolicited(self) -> None:
        """Tell a closed connection, or an unsolicited reply, from records of TLS itself."""
        try:
            if not self._buffer:
                self._socket.settimeout(0)
                self._buffer += self._socket.recv(_READ_BYTES)
            sent = masked(line_of(bytes(self._buffer[:500])))
            raise ConnectionError(f"the relay sent {sent}" if sent else "the relay closed it")
        except (BlockingIOError, ssl.SSLWantReadError):
            self._socket.settimeout(self._timeout_s)
        except OSError as error:
            self.lost = self._loss(error, "idle time")

    def _quit(self) -> None:
        with suppress(OSError):
            self._socket.settimeout(_QUIT_S)
            self._socket.sendall(b"QUIT\r\n")
            self._reply()


def _limit(size: str) -> int | None:
    """Return the limit in the SIZE of EHLO; SIZE alone, or 0, means that there is none."""
    number = size.split()[0] if size.split() else ""
    return int(number) or None if number.isascii() and number.isdigit() else None
