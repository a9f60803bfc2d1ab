"""The private parts of pika that the handler uses: how it emits bytes, takes bytes and logs.

``pika>=1.4,<1.5`` is pinned for them. A test checks each one by name, and compares frames byte for byte.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import pika
from pika.adapters.utils.nbio_interface import AbstractIOReference
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

__all__ = ["THREAD_NAME_END", "IoServices", "PublishingConnection", "quieten_pika"]

Confirmed = Callable[[int, bool], None]
"""Called with a delivery tag, and whether it confirms all tags up to it."""

THREAD_NAME_END: Final = " amqp i/o"

_ACK_SIZE: Final = 21
_ACK_METHOD: Final = 0x003C0050
_ack = struct.Struct(">QBB").unpack_from  # delivery tag, multiple, end of the frame

_log = logging.getLogger("rambla_py.handlers.amqp.pika")


class IoServices(SelectorIOServicesAdapter):
    """pika's services for a loop, which resolve host names on the loop's own thread.

    pika starts a thread for each name that is no daemon and cannot start while the interpreter is ending.
    """

    def getaddrinfo(
        self,
        host: Any,
        port: Any,
        on_done: Callable[..., None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        """Resolve a name before returning, and report it to ``on_done`` from the loop; for pika."""
        try:
            found: Any = socket.getaddrinfo(host, port, family, socktype, proto, flags)
        except OSError as error:
            found = error
        resolved = _Resolved(on_done, found)
        self.add_callback_threadsafe(resolved.report)
        return resolved


class _Resolved(AbstractIOReference):
    """A name that is resolved, until pika has the addresses or has cancelled."""

    def __init__(self, on_done: Callable[..., None], found: Any) -> None:
        self._on_done: Callable[..., None] | None = on_done
        self._found = found

    def report(self) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(self._found)

    def cancel(self) -> bool:
        pending, self._on_done = self._on_done is not None, None
        return pending


class PublishingConnection(pika.SelectConnection):
    """pika's connection with two shortcuts: frames that are encoded already, and acks parsed in bulk.

    pika spends about 10 us on each ack: an object for the frame, one for the method, a search for callbacks.
    Here a run of acks costs 1 us each; pika parses every other frame.
    """

    if TYPE_CHECKING:
        bytes_received: int
        _frame_buffer: bytes
        _transport: Any

        def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None: ...
        def _get_write_buffer_size(self) -> int: ...

    def __init__(self, *args: Any, on_ack: Confirmed, channel_number: int = 1, **kwargs: Any) -> None:
        self._on_ack = on_ack
        self._ack_head = struct.pack(">BHII", 1, channel_number, _ACK_SIZE - 8, _ACK_METHOD)
        self.emitted = 0
        super().__init__(*args, **kwargs)

    def emit(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Hand frames to the transport, which writes them as soon as the socket takes them.

        With memory views, what a socket does not take at once is not copied.
        """
        self.emitted += sum(map(len, pieces))
        self._output_marshaled_frames(cast("Sequence[bytes]", pieces))

    @property
    def written(self) -> int:
        """How many of the emitted bytes the socket has taken; 0 once the socket is gone."""
        return self.emitted - self._get_write_buffer_size() if self._transport is not None else 0

    def hang_up(self) -> None:
        """Close the socket without a word to the broker."""
        if self._transport is not None:
            self._transport.abort()

    def _on_data_available(self, data_in: bytes) -> None:
        if len(self._frame_buffer) >= _ACK_SIZE:  # in the midst of a larger frame
            super()._on_data_available(data_in)  # type: ignore[misc]  # private, so not in the stubs
            return
        head, start = self._ack_head, 0
        data = self._frame_buffer + data_in
        while data.startswith(head, start) and len(data) - start >= _ACK_SIZE:
            tag, multiple, end = _ack(data, start + 11)
            if end != 0xCE:
                break  # pika reports the broken frame
            start += _ACK_SIZE
            self._on_ack(tag, multiple != 0)
        # As pika does: the heartbeat checks whether bytes came.
        self.bytes_received += start
        self._frame_buffer = b""
        if start < len(data):
            super()._on_data_available(data[start:])  # type: ignore[misc]  # private, so not in the stubs


def quieten_pika() -> None:
    """Log what pika logs on our threads as DEBUG of ``rambla_py.handlers.amqp.pika``.

    pika logs each lost or refused connection several times as ERROR, with tracebacks, at every attempt to
    reconnect; the worker logs the error once. Lines from other threads are left alone, because the
    application may use pika itself. May be called again.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == "pika" or name.startswith("pika."):
            logging.getLogger(name).addFilter(_not_ours)  # adding a filter twice has no effect


def _not_ours(record: logging.LogRecord) -> bool:
    if not (record.threadName or "").endswith(THREAD_NAME_END):
        return True
    if _log.isEnabledFor(logging.DEBUG):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        _log.handle(record)
    return False
