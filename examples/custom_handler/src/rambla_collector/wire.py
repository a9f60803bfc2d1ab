"""The collector's protocol: one line for each message, one line for each answer."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress

from rambla_py import AccessError, ConnectionLostError, PermanentError, RejectedError, UnknownOutcomeError

__all__ = ["Wire"]

Answer = None | RejectedError | PermanentError | UnknownOutcomeError


class Wire:
    """A connection to a collector, logged in; for one thread, but for ``close``."""

    def __init__(self, host: str, port: int, *, token: str | None, timeout_s: float) -> None:
        self._where = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise ConnectionLostError(f"cannot connect to {self._where}: {error}") from error
        self._lines = self._socket.makefile("rb")
        try:
            self._log_in(token)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Wire {self._where}>"

    def exchange(self, lines: Sequence[bytes]) -> list[Answer]:
        """Write all lines, and read an answer for each; after a loss those without one are unknown."""
        answers: list[Answer] = []
        try:
            self._socket.sendall(b"".join(lines))
            while len(answers) < len(lines):
                answers.append(_answer(self._line()))
        except OSError as error:
            lost = UnknownOutcomeError(f"the connection to {self._where} was lost: {error}")
            lost.__cause__ = error
            answers += [lost] * (len(lines) - len(answers))
        return answers

    def ping(self) -> None:
        """Raise ``ConnectionLostError`` when the collector does not answer."""
        try:
            self._socket.sendall(b"PING\n")
            self._line()
        except OSError as error:
            raise ConnectionLostError(f"{self._where} does not answer: {error}") from error

    def close(self) -> None:
        """Close the connection; may be called twice."""
        with suppress(OSError):
            self._lines.close()
        self._socket.close()

    def _log_in(self, token: str | None) -> None:
        try:
            self._socket.sendall(b"HELLO %b\n" % (token or "").encode())
            answer = self._line()
        except OSError as error:
            raise ConnectionLostError(f"{self._where} does not answer: {error}") from error
        if answer != b"OK":
            # Never what was sent: it holds the token.
            raise AccessError(f"{self._where} refuses the token: {answer.decode(errors='replace')}")

    def _line(self) -> bytes:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the collector closed it")
        return line.rstrip(b"\n")


def _answer(line: bytes) -> Answer:
    """Return what an answer means: ``OK``, ``NO reason`` for good, ``BUSY reason`` for now."""
    if line == b"OK":
        return None
    kind, _, reason = line.decode(errors="replace").partition(" ")
    return RejectedError(reason or kind) if kind == "BUSY" else PermanentError(reason or kind)
