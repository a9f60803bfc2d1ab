"""The connection that receives notifications of new rows while this process is idle."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg

from rambla_py.errors import describe
from rambla_py.outbox.postgres.connection import connect
from rambla_py.outbox.postgres.tables import CHANNEL

__all__ = ["Listener"]

log = logging.getLogger("rambla_py.outbox")

_RETRY_S: Final = 1.0
_JOIN_S: Final = 5.0


class Listener:
    """Calls ``wake`` for each notification, on a daemon thread with a connection of its own.

    It is never inside a transaction. Every ``test_s`` seconds it sends a notification to itself: a
    connection that the other side has forgotten would be silent for ever. If that one does not come, it
    connects again, without end; behind a pooler that drops what it waits for, polling does the work.
    """

    def __init__(
        self, url: str, name: str, wake: Callable[[], None], *, test_s: float, read_timeout_s: float
    ) -> None:
        self._url, self._name, self._wake = url, name, wake
        self._test_s, self._read_timeout_s = test_s, read_timeout_s
        self._own_channel = f"{CHANNEL}_{secrets.token_hex(8)}"
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread: threading.Thread | None = None
        self._was_warned = False
        self.listening = threading.Event()
        """Set while it listens."""

    def start(self) -> None:
        """Start the thread; an interpreter that ends starts none, and polling goes on."""
        thread = threading.Thread(target=self._run, name="rambla outbox listener", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        """End the thread and its connection."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as other:
                other.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closes the connection itself
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    @property
    def pid(self) -> int:
        """The number of its session in the server; 0 while it has none."""
        connection = self._connection
        return 0 if connection is None or connection.closed else connection.info.backend_pid

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (psycopg.Error, OSError) as error:
                self._warn(describe(error))
            finally:
                self.listening.clear()
            self._wake()  # what came in between was not received
            self._stopping.wait(_RETRY_S)

    def _listen(self) -> None:
        silence_s = self._test_s + self._read_timeout_s  # of a server from which nothing comes meanwhile
        with connect(self._url, silence_s, "rambla outbox listener") as connection:
            self._connection = connection
            try:
                for channel in (CHANNEL, self._own_channel):
                    connection.execute(f"LISTEN {channel}".encode())
                self.listening.set()
                self._wake()
                while not self._stopping.is_set():
                    if not self._receive(connection):
                        self._warn("its notification to itself did not come")
                        return
            finally:
                self._connection = None

    def _receive(self, connection: psycopg.Connection[Any]) -> bool:
        """Wait for notifications for ``test_s`` seconds; return whether the one to itself came."""
        connection.execute("SELECT pg_notify(%s, '')", (self._own_channel,))
        received, end = False, time.monotonic() + self._test_s
        while (left := end - time.monotonic()) > 0 and not self._stopping.is_set():
            for notification in connection.notifies(timeout=left, stop_after=1):
                if notification.channel == self._own_channel:
                    received = True
                    self._was_warned = False
                else:
                    self._wake()
        return received

    def _warn(self, reason: str) -> None:
        if not self._was_warned and not self._stopping.is_set():
            self._was_warned = True
            log.warning(
                "outbox %s: the connection for notifications is lost and made again, polling goes on: %s",
                self._name,
                reason,
            )
