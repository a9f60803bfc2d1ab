"""This module hands mails over on a connection that is kept: who sends, who receives, then the mail."""

from __future__ import annotations

import os
import select
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from rambla_py.errors import ConnectionLostError, DeliveryError, PermanentError, UnknownOutcomeError
from rambla_py.handlers.smtp.compose import Mail
from rambla_py.handlers.smtp.errors import CLOSING, Reply, recipients_error, refusal, words_of

__all__ = ["Sent", "SmtpWire"]

_GO_AHEAD = 354
_READ_BYTES = 4096
_MOST_REPLY_BYTES = 65_536
_TAIL_BYTES = 65_536
_MOST_AT_ONCE = 100
"""So few commands are written at once that neither side can wait for the other to read first."""

_GOODBYE_S = 1.0
_LAST_WORDS_S = 0.2


class Sent(msgspec.Struct, frozen=True):
    """The result of a delivery: the mail's Message-ID, the relay's answer, who was refused and why.

    ``refused`` is empty unless ``partial`` is on; its texts begin with the code: one that begins with 4 may
    be taken another time.
    """

    message_id: str
    reply: str
    refused: dict[str, str] = {}


class _LastWordsError(ConnectionError):
    """The relay refused the mail while it was being written, and closed the connection."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(f"the relay said {reply}, and closed it")


class SmtpWire:
    """A live connection, logged in, for one thread; only ``close`` may be called from another.

    ``lost`` says why it can be used no longer, or is None. ``limit`` is the most bytes that the relay takes.
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
        smtp.file = None  # from here on we read by ourselves: its lock would outlive a fork
        self._socket.settimeout(read_timeout_s)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __repr__(self) -> str:
        return f"<SmtpWire {self.where}{', lost' if self.lost else ''}>"

    def check(self) -> None:
        """Raise ``ConnectionLostError`` when the relay has gone, or said goodbye, since the last mail."""
        if self.lost is None and (self._buffer or self._poll.poll(0)):
            self._look_at_unasked_bytes()
        if self.lost is not None:
            raise self.lost

    def ping(self) -> None:
        """Raise when the relay does not answer a NOOP."""
        self.check()
        with self._in_use("NOOP"):
            (reply,) = self._deal([b"NOOP\r\n"])
        if not reply.positive:
            raise refusal(reply, during="NOOP")

    def send(self, mail: Mail, *, partial: bool) -> Sent:
        """Hand a mail over; ``partial`` sends it to those recipients that the relay takes.

        Raises ``ConnectionLostError`` for what was not applied, ``UnknownOutcomeError`` when the answer to
        the whole mail did not come, and what ``refusal`` and ``recipients_error`` give.
        """
        self.check()
        if mail.utf8 and not self.utf8:
            raise PermanentError(
                f"{self.where} does not offer SMTPUTF8, which an address needs whose name is not ASCII"
            )
        with self._in_use("the envelope"):
            refused = self._envelope(mail, partial=partial)
        self._body(mail.data)
        with self._in_use("the wait for the answer to the mail", unknown=True):
            reply = self._reply()
        if not reply.positive:
            raise self._noted(refusal(reply, during="the mail"))
        return Sent(mail.message_id, str(reply), {who: str(why) for who, why in refused.items()})

    def close(self) -> None:
        """Say goodbye where that is possible, and close; from any thread. May be called twice."""
        # Not in a forked child: the connection is its parent's.
        if os.getpid() == self._owner:
            if self.lost is None and not self._busy:
                self._say_goodbye()
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # wakes who waits for an answer
        self._socket.close()
        self.lost = self.lost or ConnectionLostError(f"the connection to {self.where} is closed")

    # -- a mail ---------------------------------------------------------------------------------------

    def _envelope(self, mail: Mail, *, partial: bool) -> dict[str, Reply]:
        """Name sender and recipients, and ask to send; returns the recipients that were refused."""
        commands = [self._mail_from(mail), *(b"RCPT TO:<%b>\r\n" % who.encode() for who in mail.recipients)]
        # What is refused only after the go-ahead cannot be taken back: with several recipients and without
        # partial the answers about them come first.
        at_once = self._pipelining and (partial or len(mail.recipients) == 1)
        replies = self._deal([*commands, b"DATA\r\n"] if at_once else commands)
        go_ahead = replies.pop() if at_once else None
        refused = {
            who: reply for who, reply in zip(mail.recipients, replies[1:], strict=False) if not reply.positive
        }
        problem = self._problem(replies[0], refused, len(mail.recipients), partial=partial)
        if problem is None and go_ahead is None:
            (go_ahead,) = self._deal([b"DATA\r\n"])
        if problem is None and go_ahead is not None and go_ahead.code != _GO_AHEAD:
            problem = refusal(go_ahead, during="DATA")
        if problem is not None:
            self._take_back(go_ahead)
            raise self._noted(problem)
        return refused

    def _mail_from(self, mail: Mail) -> bytes:
        size = b" SIZE=%d" % len(mail.data) if self._sized else b""
        utf8 = b" BODY=8BITMIME SMTPUTF8" if mail.utf8 else b""
        return b"MAIL FROM:<%b>%b%b\r\n" % (mail.sender.encode(), size, utf8)

    def _problem(
        self, sender: Reply, refused: dict[str, Reply], total: int, *, partial: bool
    ) -> DeliveryError | None:
        if not sender.positive:
            return refusal(sender, during="MAIL FROM")
        for reply in refused.values():
            problem = refusal(reply, during="RCPT TO")
            if isinstance(problem, ConnectionLostError):  # closing, or a login is wanted: it is not about one
                return problem
        if refused and not (partial and len(refused) < total):
            return recipients_error(refused, total)
        return None

    def _take_back(self, go_ahead: Reply | None) -> None:
        """Undo what was begun, so that the next mail can begin; a connection that cannot is lost."""
        try:
            if go_ahead is not None and go_ahead.code == _GO_AHEAD:
                # Nobody was taken and yet it says go on (RFC 2920 allows it): an empty mail ends it.
                self._deal([b".\r\n"])
            (reply,) = self._deal([b"RSET\r\n"])
            if not reply.positive:
                raise ConnectionError(f"it answered RSET with {reply}")
        except OSError as error:
            self.lost = self._loss(error, "RSET")

    def _body(self, data: bytes) -> None:
        """Write the mail and its end; ``ConnectionLostError`` as long as the end was not written."""
        data = b"%b.\r\n" % data.replace(b"\r\n.", b"\r\n..")
        view, tail = memoryview(data), max(0, len(data) - _TAIL_BYTES)
        with self._in_use("the mail"):
            self._write(view[:tail])
        with self._in_use("the end of the mail", unknown=True):
            self._write(view[tail:])

    # -- commands and answers -------------------------------------------------------------------------

    def _deal(self, commands: Sequence[bytes]) -> list[Reply]:
        """Write commands and read their answers; without pipelining none follows a refused first one."""
        replies: list[Reply] = []
        step = _MOST_AT_ONCE if self._pipelining else 1
        for at in range(0, len(commands), step):
            piece = commands[at : at + step]
            self._write(b"".join(piece))
            for _ in piece:
                replies.append(self._reply())
                if replies[-1].code == CLOSING:
                    raise ConnectionError(f"the relay said {replies[-1]}")
            if not replies[0].positive and step == 1:
                break
        return replies

    def _write(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._last_words(error) from error

    def _last_words(self, error: OSError) -> OSError:
        """Return the error of a failed write, with what the relay may have said before it closed."""
        with suppress(OSError):
            self._socket.settimeout(_LAST_WORDS_S)
            return _LastWordsError(self._reply())
        return error

    def _reply(self) -> Reply:
        lines: list[bytes] = []
        size = 0
        while size <= _MOST_REPLY_BYTES:
            line = self._line()
            code = line[:3]
            if not (len(code) == 3 and code.isdigit()):
                raise ConnectionError(f"an answer that is not SMTP: {words_of(line[:200])!r}")
            lines.append(line[4:])
            if line[3:4] != b"-":
                return Reply(int(code), words_of(b" ".join(lines)))
            size += len(line)
        raise ConnectionError("an answer without an end")

    def _line(self) -> bytes:
        buffer = self._buffer
        while (end := buffer.find(b"\n")) < 0:
            if len(buffer) > _MOST_REPLY_BYTES:
                raise ConnectionError("an answer without an end")
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
        """Make a broken socket a loss of what was not applied, or that may have been: ``unknown``."""
        self._busy = True
        try:
            yield
        except OSError as error:
            self.lost = self._loss(error, during)
            if isinstance(error, _LastWordsError) and error.reply.code >= 400:
                raise refusal(error.reply, during=during) from error
            raise UnknownOutcomeError(str(self.lost)) if unknown else self.lost from error
        finally:
            self._busy = False

    def _noted(self, problem: DeliveryError) -> DeliveryError:
        if isinstance(problem, ConnectionLostError):
            self.lost = problem
        return problem

    def _loss(self, error: OSError, during: str) -> ConnectionLostError:
        lost = ConnectionLostError(
            f"the connection to {self.where} was lost during {during}: {self._reason(error)}"
        )
        lost.__cause__ = error
        return lost

    def _reason(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within read_timeout_s = {self._timeout_s:g}"
        return str(error) or type(error).__name__

    def _look_at_unasked_bytes(self) -> None:
        """Tell the end of the connection, and what a relay says unasked, from TLS talking to itself."""
        try:
            if not self._buffer:
                self._socket.settimeout(0)
                self._buffer += self._socket.recv(_READ_BYTES)
            said = words_of(bytes(self._buffer[:500]))
            raise ConnectionError(f"the relay said {said}" if said else "the relay closed it")
        except (BlockingIOError, ssl.SSLWantReadError):
            self._socket.settimeout(self._timeout_s)
        except OSError as error:
            self.lost = self._loss(error, "idling")

    def _say_goodbye(self) -> None:
        with suppress(OSError):
            self._socket.settimeout(_GOODBYE_S)
            self._socket.sendall(b"QUIT\r\n")
            self._reply()


def _limit(size: str) -> int | None:
    """Return the limit that EHLO tells; a relay that says SIZE alone, or 0, has none to tell."""
    told = size.split()[0] if size.split() else ""
    return int(told) or None if told.isascii() and told.isdigit() else None
