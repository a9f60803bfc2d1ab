"""This module speaks to one Redis server over one socket: many commands in a write, then all replies."""

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
from rambla_py.handlers.redis.commands import pack
from rambla_py.handlers.redis.connection import open_socket
from rambla_py.handlers.redis.errors import connect_error, is_about_certificates, reply_error
from rambla_py.handlers.redis.settings import Address

__all__ = ["RedisWire"]

_READ_BYTES = 65_536

# How much is sent before replies are read. The count keeps the replies (errors of about 100 bytes at worst)
# within the socket buffers, so that neither side can wait for the other to read first; the bytes keep down
# how many messages have an unknown outcome after a loss.
_MOST_DUE = 1_000
_MOST_DUE_BYTES = 8 * 1024 * 1024

_NOT_YET = object()
_PING = pack((b"PING",))


class RedisWire:
    """A live connection, logged in, for one thread; only ``close`` may be called from another.

    ``lost`` says why it can be used no longer, or is None.
    """

    def __init__(self, address: Address, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self.address = address
        self.lost: ConnectionLostError | None = None
        self._timeout_s = connect_timeout_s
        self._owner = os.getpid()
        self._due: list[int] = []
        self._size = 0
        self._problem: OSError | None = None
        self._buffer = bytearray(_READ_BYTES)
        self._reader = hiredis.Reader(
            replyError=self._reply_error, protocolError=hiredis.ProtocolError, notEnoughData=_NOT_YET
        )
        self._socket = open_socket(address, timeout_s=connect_timeout_s)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise
        self._timeout_s = read_timeout_s
        self._socket.settimeout(read_timeout_s)

    def __repr__(self) -> str:
        return f"<RedisWire {self.address.where}{', lost' if self.lost else ''}>"

    def check(self) -> None:
        """Raise ``ConnectionLostError`` when the server has gone since the last exchange.

        A server closes idle connections, and restarts; noticed here, the messages are known to be unsent.
        """
        if self._due:
            # Something broke off between send and receive: replies would go to the wrong commands.
            self.lost = self.lost or ConnectionLostError("an earlier exchange was not finished")
        if self.lost is None and self._poll.poll(0):
            self._look_at_unasked_bytes()
        if self.lost is not None:
            raise self.lost

    @property
    def full(self) -> bool:
        """Whether replies must be received before more is sent."""
        return len(self._due) >= _MOST_DUE or self._size >= _MOST_DUE_BYTES or self._problem is not None

    def send(self, commands: Sequence[bytes]) -> None:
        """Write commands at once; ``receive`` tells how it went. Nothing is written after a failed write."""
        self._due.extend(map(len, commands))
        if self._problem is None:
            self._write(b"".join(commands))

    def receive(self) -> list[Any]:
        """Return a reply for each command sent since the last time: bytes, int, None, list, or an error.

        After a loss: ``UnknownOutcomeError`` for those that were written and not answered,
        ``ConnectionLostError`` for those that were not written whole, which a server does not carry out.
        """
        replies: list[Any] = []
        if self._due:
            self._read(replies)
        if self._problem is not None:
            self.lost = self._loss(self._problem)
            replies += self._unanswered(self._problem, len(replies))
        self._due, self._size = [], 0
        return replies

    def hurry(self) -> None:
        """Take what has come by now for all there is: who asked several servers has waited long enough."""
        if not self._poll.poll(0):
            self._problem = self._problem or TimeoutError()

    @property
    def timed_out(self) -> bool:
        """Whether it was lost because the server kept silent."""
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
        """Return what came unasked, without waiting: the messages of a subscription; none once lost."""
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
        """Raise ``ConnectionLostError`` or ``AccessError`` when the server does not serve us."""
        self.check()
        self.send([_PING])
        (reply,) = self.receive()
        if isinstance(reply, ConnectionLostError):
            raise reply
        if self.lost is not None:
            raise self.lost

    def close(self) -> None:
        """Close at once; whoever waits for a reply on another thread is woken. May be called twice."""
        # Of the base class: the one of a TLS socket drops its TLS state while another thread may use it. Not
        # in a forked child: the connection is its parent's.
        if os.getpid() == self._owner:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._socket.close()
        self.lost = self.lost or ConnectionLostError(f"the connection to {self.address.where} is closed")

    def _log_in(self) -> None:
        kinds, commands = zip(*self._greeting(), strict=True)
        self.send(commands)
        for kind, reply in zip(kinds, self.receive(), strict=True):
            cause = None if self.lost is None else self.lost.__cause__
            if isinstance(cause, OSError):
                raise connect_error(cause, self.address.where, timeout_s=self._timeout_s) from cause
            # Who may only write may be denied PING: the server is there all the same.
            if isinstance(reply, DeliveryError) and not str(reply).startswith("NOPERM"):
                kind = type(reply) if isinstance(reply, ConnectionLostError) else kind
                raise kind(f"{self.address.where} refused the connection: {reply}")

    def _greeting(self) -> Iterator[tuple[type[ConnectionLostError], bytes]]:
        """Yield each command of the handshake, with the error that its refusal is."""
        address = self.address
        if address.username or address.password:
            who = [address.username] if address.username else []
            words = ["AUTH", *who, secret_text(address.password) or ""]
            yield AccessError, pack([word.encode() for word in words])
        if address.database:
            yield ConnectionLostError, pack((b"SELECT", b"%d" % address.database))
        yield ConnectionLostError, _PING

    def _reply_error(self, text: str) -> DeliveryError:
        error = reply_error(text)
        if isinstance(error, ConnectionLostError):
            self.lost = error
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
        """Add the replies that are due; after a failed write those that came before it, without waiting."""
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
                feed(buffer, 0, size)  # type: ignore[arg-type]  # takes any buffer, its stub says bytes
        except OSError as error:
            # What a peer says of a certificate it refuses is read after the write has failed already.
            if self._problem is None or is_about_certificates(error):
                self._problem = error
        except hiredis.ProtocolError as error:
            self._problem = self._problem or ConnectionError(f"the answer is not Redis: {error}")

    def _look_at_unasked_bytes(self) -> None:
        """Tell the end of the connection from what TLS says to itself (tickets, new keys)."""
        problem: OSError | None = None
        try:
            self._socket.settimeout(0)
            size = self._socket.recv_into(self._buffer)
            problem = ConnectionError("it sent what nobody asked for" if size else "the server closed it")
        except (BlockingIOError, ssl.SSLWantReadError):
            self._socket.settimeout(self._timeout_s)
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
