"""A pipelined connection to one Redis server: many commands in a write, then all replies."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import hiredis

from rambla_py.errors import AccessError, ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handler import secret_text
from rambla_py.handlers.redis.encode import pack
from rambla_py.handlers.redis.errors import (
    KeyDeniedError,
    RedirectError,
    connect_error,
    handshake_error,
    is_about_certificates,
    reply_error,
    wants_new_connection,
)
from rambla_py.handlers.redis.raw_socket import open_socket, socket_timeout
from rambla_py.handlers.redis.settings import Address

__all__ = ["RedisConnection"]

_READ_BYTES = 65_536

# How much is sent before replies are read. The count keeps the replies (errors of about 100 bytes at worst)
# within the socket buffers, so that neither side blocks on the other's reads; the bytes limit how many
# messages have an unknown outcome after a loss.
_MOST_DUE = 1_000
_MOST_DUE_BYTES = 8 * 1024 * 1024

_NOT_YET = object()
_PING = pack((b"PING",))


class RedisConnection:
    """A live connection, logged in, for one thread; only ``close`` may be called from another.

    ``lost`` is the reason why it can no longer be used, or None. After a reply such as READONLY, ``check``
    opens the socket again, because the name may lead to another server by then. ``special`` is whether a
    reply since the last ``receive`` was a redirection, or about a key that is denied.
    """

    def __init__(self, address: Address, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self.address = address
        self.lost: ConnectionLostError | None = None
        self.special = self.stale = self._closed = False
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        self._owner = os.getpid()
        self._buffer = bytearray(_READ_BYTES)
        self._open()

    def _open(self) -> None:
        self._timeout_s = self._connect_timeout_s
        self._due: list[int] = []
        self._size = 0
        self._problem: OSError | None = None
        self._reader = hiredis.Reader(
            replyError=self._reply_error, protocolError=hiredis.ProtocolError, notEnoughData=_NOT_YET
        )
        self._socket = open_socket(self.address, timeout_s=self._timeout_s)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            self._log_in()
        except BaseException:
            self._shut()
            raise
        self._timeout_s = self._read_timeout_s
        self._socket.settimeout(socket_timeout(self._timeout_s))

    def __repr__(self) -> str:
        return f"<RedisConnection {self.address.where}{', lost' if self.lost else ''}>"

    def check(self) -> None:
        """Raise ``ConnectionLostError`` when the server has gone since the last exchange.

        Servers restart, and close idle connections. Detected here, the messages are known to be unsent.
        """
        if self._due:
            # An exception came between send and receive: replies would go to the wrong commands.
            self.lost = self.lost or ConnectionLostError("an earlier exchange was not finished")
        if self.stale and self.lost is None:
            self._renew()
        if self.lost is None and self._poll.poll(0):
            self._read_unexpected()
        if self.lost is not None:
            raise self.lost

    def _renew(self) -> None:
        """Open the socket again; after an ``AccessError`` the next ``check`` tries once more."""
        self._shut()
        try:
            self._open()
        except AccessError:
            raise
        except ConnectionLostError as error:
            self.lost = error
            raise
        self.stale = False
        if self._closed:  # meanwhile, by another thread, which closed the old socket
            self._shut()

    @property
    def full(self) -> bool:
        """Whether replies must be received before more is sent."""
        return len(self._due) >= _MOST_DUE or self._size >= _MOST_DUE_BYTES or self._problem is not None

    def send(self, commands: Sequence[bytes]) -> None:
        """Write commands at once; ``receive`` returns any error. Nothing is written after a failed write."""
        self._due.extend(map(len, commands))
        if self._problem is None:
            self._write(b"".join(commands))

    def receive(self) -> list[Any]:
        """Return a reply for each command sent since the last call: bytes, int, None, list, or an error.

        After a loss: ``UnknownOutcomeError`` for commands that were written and not answered,
        ``ConnectionLostError`` for those that were not written whole, which a server does not execute.
        """
        replies: list[Any] = []
        if self._due:
            self._read(replies)
        if self._problem is not None:
            self.lost = self._loss(self._problem)
            replies += self._unanswered(self._problem, len(replies))
        self._due, self._size = [], 0
        return replies

    def stop_waiting(self) -> None:
        """Let ``receive`` return what has arrived; used once another server has used up the time-out."""
        if not self._poll.poll(0):
            self._problem = self._problem or TimeoutError()

    @property
    def timed_out(self) -> bool:
        """Whether it was lost because the server did not answer in time."""
        return isinstance(self._problem, TimeoutError)

    def ask(self, *words: bytes) -> Any:
        """Return the reply to one command; raises ``ConnectionLostError``, also when it is refused."""
        self.check()
        self.send([pack(words)])
        (reply,) = self.receive()
        if isinstance(reply, ConnectionLostError):
            raise reply
        if self.lost is not None:
            raise self.lost
        if isinstance(reply, DeliveryError):
            raise ConnectionLostError(f"{self.address.where}: {reply}")
        return reply

    def pushed(self) -> list[Any]:
        """Return the messages of a subscription that have arrived, without waiting; none once lost."""
        found: list[Any] = []
        while self.lost is None and self._poll.poll(0):
            try:
                self._socket.settimeout(0)
                size = self._socket.recv_into(self._buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except OSError as error:
                self.lost = self._loss(error)
                break
            if not size:
                self.lost = self._loss(ConnectionError("the server closed it"))
                break
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
            while (reply := self._reader.gets()) is not _NOT_YET:
                found.append(reply)
        return found

    def ping(self) -> None:
        """Raise ``ConnectionLostError`` or ``AccessError`` when the server does not answer PING."""
        self.check()
        self.send([_PING])
        (reply,) = self.receive()
        if self.lost is not None:
            raise self.lost
        if isinstance(reply, DeliveryError) and not str(reply).startswith("NOPERM"):
            raise reply

    def close(self) -> None:
        """Close at once; threads that wait for a reply are woken. May be called twice."""
        self._closed = True
        self._shut()
        self.lost = self.lost or ConnectionLostError(f"the connection to {self.address.where} is closed")

    def _shut(self) -> None:
        # The base class's method: that of a TLS socket drops its TLS state while another thread may use it.
        # Not in a forked child: the connection belongs to its parent.
        if os.getpid() == self._owner:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._socket.close()

    def _log_in(self) -> None:
        commands = list(self._handshake())
        self.send(commands)
        for command, reply in zip(commands, self.receive(), strict=True):
            cause = None if self.lost is None else self.lost.__cause__
            if isinstance(cause, OSError):
                self.lost = None
                raise connect_error(cause, self.address.where, timeout_s=self._timeout_s) from cause
            # A user with write commands only may lack PING: the server is there all the same.
            denied_ping = command is _PING and str(reply).startswith("NOPERM")
            if isinstance(reply, DeliveryError) and not denied_ping:
                raise handshake_error(reply, self.address.where)
        self.special = self.stale = False

    def _handshake(self) -> Iterator[bytes]:
        """Yield each command of the handshake."""
        address = self.address
        if address.username or address.password:
            user = [address.username] if address.username else []
            words = ["AUTH", *user, secret_text(address.password) or ""]
            yield pack([word.encode() for word in words])
        if address.database:
            yield pack((b"SELECT", b"%d" % address.database))
        yield _PING

    def _reply_error(self, text: str) -> DeliveryError:
        error = reply_error(text)
        if type(error) is ConnectionLostError:
            self.lost = error
        elif isinstance(error, RedirectError | KeyDeniedError):
            self.special = True
        elif wants_new_connection(error):
            self.stale = True
        return error

    def _write(self, data: bytes) -> None:
        sent, view = 0, memoryview(data)
        try:
            while sent < len(data):
                sent += self._socket.send(view[sent:])
        except OSError as error:
            self._problem = error
        self._size += sent

    def _read(self, replies: list[Any]) -> None:
        """Append the replies that are due; after a failed write only those that have arrived."""
        gets, feed, buffer, due = self._reader.gets, self._reader.feed, self._buffer, len(self._due)
        try:
            if self._problem is not None:
                self._socket.settimeout(0)
            while True:
                while (reply := gets(False)) is not _NOT_YET:
                    replies.append(reply)
                    if len(replies) == due:
                        return
                size = self._socket.recv_into(buffer)
                if not size:
                    raise ConnectionError("the server closed it")
                feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer
        except OSError as error:
            # The TLS alert about a certificate that the peer refuses is read after the write has failed.
            if self._problem is None or is_about_certificates(error):
                self._problem = error
        except hiredis.ProtocolError as error:
            self._problem = self._problem or ConnectionError(f"the answer is not Redis: {error}")

    def _read_unexpected(self) -> None:
        """Detect the end of the connection; TLS session tickets and new keys are no such thing."""
        problem: OSError | None = None
        try:
            self._socket.settimeout(0)
            size = self._socket.recv_into(self._buffer)
            problem = ConnectionError("it sent unrequested data" if size else "the server closed it")
        except (BlockingIOError, ssl.SSLWantReadError):
            self._socket.settimeout(socket_timeout(self._timeout_s))
        except OSError as error:
            problem = error
        if problem is not None:
            self.lost = self._loss(problem)

    def _unanswered(self, problem: OSError, answered: int) -> list[DeliveryError]:
        where, reason = self.address.where, self._reason(problem)
        unknown = f"the connection to {where} was lost before the answer: {reason}"
        unsent = f"the connection to {where} was lost before the write: {reason}"
        ends = list(accumulate(self._due))[answered:]
        return [
            UnknownOutcomeError(unknown) if end <= self._size else ConnectionLostError(unsent) for end in ends
        ]

    def _loss(self, problem: OSError) -> ConnectionLostError:
        lost = ConnectionLostError(
            f"the connection to {self.address.where} was lost: {self._reason(problem)}"
        )
        lost.__cause__ = problem
        return lost

    def _reason(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        return str(error) or type(error).__name__
